// One head of one token in registers, padded with zeros to a multiple of 16 elements, so that loops
// take four vec4 a round.
alias Row = array<vec4<f32>, HEAD_PADDED>;
