// o = scale q S / (scale q (z + EPS_FEATURE) + EPS), z the sum of the keys' features; a denominator of 0 gives 0.
var<workgroup> z: array<vec4<f32>, FEATURE_CHUNKS>;
var<workgroup> denominators: array<f32, TILE_T>;

fn z_word(unit: u32, feature: u32) -> u32 { return params.state_offset + params.normalizer + unit * FEATURES + feature; }
fn z_or_0(unit: u32, feature: u32) -> f32 {
    if (feature >= FEATURES) { return 0.0; }
    return work[z_word(unit, feature)];
}

fn resume_normalizer(unit: u32, fresh: bool, lane: u32) {
    for (var c = lane; c < FEATURE_CHUNKS; c += TILE_Q) {
        if (fresh) {
            z[c] = vec4<f32>(0.0);
        } else {
            z[c] = vec4<f32>(z_or_0(unit, 4u * c), z_or_0(unit, 4u * c + 1u), z_or_0(unit, 4u * c + 2u), z_or_0(unit, 4u * c + 3u));
        }
    }
}

// Lane t: the denominator of query t, from z before the tile and the tile's keys up to its own time.
fn normalize_tile(at: Times, lane: u32) {
    if (lane < TILE_T && query_at(at, lane) >= 0) {
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < feature_chunks(); c++) {
            var keys = z[c];
            for (var t = 0u; t <= lane; t++) { keys += k_tile[t * FEATURE_CHUNKS + c]; }
            sum += q_tile[lane * FEATURE_CHUNKS + c] * (keys + EPS_FEATURE);
        }
        denominators[lane] = params.softmax_scale * ((sum.x + sum.y) + (sum.z + sum.w)) + EPS;
    }
    workgroupBarrier();
    for (var c = lane; c < FEATURE_CHUNKS; c += TILE_Q) {
        var sum = z[c];
        for (var t = 0u; t < TILE_T; t++) { sum += k_tile[t * FEATURE_CHUNKS + c]; }
        z[c] = sum;
    }
    workgroupBarrier();
}

fn normalized(o: f32, t: u32) -> f32 {
    let denominator = denominators[t];
    if (denominator == 0.0) { return 0.0; }
    return o / denominator;
}

fn suspend_normalizer(unit: u32, lane: u32) {
    workgroupBarrier();
    for (var c = lane; c < FEATURE_CHUNKS; c += TILE_Q) {
        for (var e = 0u; e < min(4u, FEATURES - 4u * c); e++) { work[z_word(unit, 4u * c + e)] = z[c][e]; }
    }
}
