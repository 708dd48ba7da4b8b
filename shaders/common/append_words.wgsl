// What the lane of `append_blocks` reads and writes: elements of a new row as bits, words of k or v one after the other. A half word waits for its
// other half; what is still waiting at the end goes beside what stands there.
var<private> writes_v: bool;
var<private> given_row: u32;
var<private> next_half: u32;
var<private> waiting: u32;

// Elements 4c..4c+3 of the new row; 0 past its end.
fn given4(c: u32) -> vec4<u32> {
    if (writes_v) { return bitcast<vec4<u32>>(new_v4(given_row, c)); }
    return bitcast<vec4<u32>>(key4(given_row, c));
}
fn given_chunks() -> u32 { return select(HEAD_CHUNKS, V_CHUNKS, writes_v); }

fn word_at(at: u32) -> u32 {
    if (writes_v) { return v[at]; }
    return k[at];
}
fn set_word(at: u32, word: u32) {
    if (writes_v) { v[at] = word; } else { k[at] = word; }
}

// From a half word on: an even one, or where the words before ended.
fn begin_words(half: u32) { next_half = half; }
fn put16(x: u32) {
    if ((next_half & 1u) == 1u) { set_word(next_half >> 1u, waiting | (x << 16u)); } else { waiting = x; }
    next_half += 1u;
}
fn put32(x: u32) {
    if ((next_half & 1u) == 1u) {
        set_word(next_half >> 1u, waiting | (x << 16u));
        waiting = x >> 16u;
    } else {
        set_word(next_half >> 1u, x);
    }
    next_half += 2u;
}
fn end_words() {
    if ((next_half & 1u) == 1u) { set_word(next_half >> 1u, waiting | (word_at(next_half >> 1u) & 0xffff0000u)); }
}
