// append_blocks: as `append`, where k or v or both stand in blocks. New rows are read, those of k normed and rotated where the cache holds
// rotated keys, quantised each to the storage of its tensor, and stored at the rows that the step names.
//
// grid       new tokens / TILE_Q  x  units of K_HEADS heads of k, then of V_HEADS heads of v  x  batch, offset by `chunk`
// workgroup  LANES lanes; a lane takes K_TOGETHER (V_TOGETHER) pieces of a token's unit, 32 elements each, and then others LANES further on
// registers  four elements and what a block has become so far: a piece is read again for every pass over it
//
// The bytes are those of the host (`Data::from_rows`), on every device: from the bits of an element on, everything is integers
// (`common/exact`, `tensor/quantise_*`). No tie can go either way. A rotated key is rounded before it is quantised, so where it lies next to
// the middle between two numbers of its block it may become the other one, half a step away as the first.
//
// Each word of a cache has one writer. Blocks of 18, 22 and 34 bytes begin at half words, so that two of them share one: there a lane takes
// two blocks, from a whole word on, where the plan has rows begin at whole words (K_HEADS = 1), or where rows of an odd number of blocks
// follow each other from head to head, the rows of two heads (K_HEADS = 2), of which the first begins at a whole word. The plan refuses other
// strides, and `bind` other offsets. What is left of a lane's last word is no other lane's: it keeps what stands there. Blocks of the other
// types, int8's and fp8's rows and those of floats are whole words, of which a lane takes one piece.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    hide_steps();
    let batch = chunk.batch + workgroup.z;
    let first = (chunk.tile + workgroup.x) * TILE_Q;
    let k_units = (params.num_heads / params.group + K_HEADS - 1u) / K_HEADS;
    let unit = chunk.kv_head + workgroup.y;
    if (unit < k_units) {
        writes_v = false;
        stage_keys(batch, first, unit * K_HEADS, lane);
        for (var item = lane; item < TILE_Q * K_PARTS; item += LANES) { append_part(batch, first, item / K_PARTS, unit * K_HEADS, item % K_PARTS); }
        return;
    }
    writes_v = true;
    for (var item = lane; item < TILE_Q * V_PARTS; item += LANES) {
        append_part(batch, first, item / V_PARTS, (unit - k_units) * V_HEADS, item % V_PARTS);
    }
}

// Of the tile's token, the pieces of a part of the heads from `head` on.
fn append_part(batch: u32, first: u32, token: u32, head: u32, part: u32) {
    let n = first + token;
    if (n >= append_count(batch)) { return; }
    let j = append_key(batch, n);
    let pieces = select(K_PIECES, V_PIECES, writes_v);
    let together = select(K_TOGETHER, V_TOGETHER, writes_v);
    let heads = min(select(K_HEADS, V_HEADS, writes_v), params.num_heads / params.group - head);
    let end = min((part + 1u) * together, heads * pieces);
    for (var piece = part * together; piece < end; piece++) {
        let of_unit = piece / pieces;
        if (writes_v) { given_row = new_v_row(batch, n, head + of_unit); } else { given_row = key_place(batch, n, token, head, of_unit); }
        let row = given_cache_row(batch, j, head + of_unit);
        quantise(row, piece % pieces * 8u);
    }
    end_words();
}
fn given_cache_row(batch: u32, j: u32, head: u32) -> u32 {
    if (writes_v) { return v_row(batch, j, head); }
    return k_row(batch, j, head);
}

// The first element of a new row.
fn new_k_row(batch: u32, n: u32, head: u32) -> u32 {
    return params.new_k_offset + tensor_batch(batch) * params.new_k_batch + q_token(batch, append_query(batch, n)) * params.new_k_token + head * params.new_k_head;
}
fn new_v_row(batch: u32, n: u32, head: u32) -> u32 {
    return params.new_v_offset + tensor_batch(batch) * params.new_v_batch + q_token(batch, append_query(batch, n)) * params.new_v_token + head * params.new_v_head;
}
