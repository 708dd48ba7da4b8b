// One head of one token in registers, padded to a multiple of 4 with zeros.
alias Row = array<vec4<f32>, HEAD_CHUNKS>;
