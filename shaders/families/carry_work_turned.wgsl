// The keys of a row are cut over several dispatches, which run in order: (m, l, o) of a row that is not finished stands in
// `work`, 4 V_CHUNKS + 4 words a row. f32 in, f32 out: the result has the bits of an uncut run.
fn state_at(row: u32) -> u32 { return params.state_offset + row * (4u * V_CHUNKS + 4u); }

fn resume(row: u32, o: ptr<function, OutRow>, state: ptr<function, State>) {
    if (first_key() == 0u) { return; }
    let at = state_at(row);
    (*state).m = work[at];
    (*state).l = work[at + 1u];
    (*state).any = work[at + 2u] != 0.0;
    (*state).nan = work[at + 3u] != 0.0;
    for (var c = 0u; c < v_chunks(); c++) {
        let word = at + 4u + 4u * c;
        (*o)[c] = vec4<f32>(work[word], work[word + 1u], work[word + 2u], work[word + 3u]);
    }
}

// True if more keys are to come; else o turns back.
fn suspend(row: u32, o: ptr<function, OutRow>, state: ptr<function, State>) -> bool {
    if (end_key() >= params.kv_capacity) {
        turn_output(o);
        return false;
    }
    let at = state_at(row);
    work[at] = (*state).m;
    work[at + 1u] = (*state).l;
    work[at + 2u] = select(0.0, 1.0, (*state).any);
    work[at + 3u] = select(0.0, 1.0, (*state).nan);
    for (var c = 0u; c < v_chunks(); c++) {
        let word = at + 4u + 4u * c;
        let x = (*o)[c];
        work[word] = x.x;
        work[word + 1u] = x.y;
        work[word + 2u] = x.z;
        work[word + 3u] = x.w;
    }
    return true;
}
