// f32 storage: four elements are a vec4<f32>, one is a word.
alias Raw4_f32 = vec4<f32>;
alias Raw1_f32 = f32;

fn unpack4_f32(raw: Raw4_f32) -> vec4<f32> { return raw; }
fn pack4_f32(x: vec4<f32>) -> Raw4_f32 { return x; }

fn word_of_f32(element: u32) -> u32 { return element; }
fn unpack1_f32(raw: Raw1_f32, element: u32) -> f32 { return raw; }
