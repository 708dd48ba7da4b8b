// f32 storage: four elements are a vec4<f32>, one is a word.
alias Raw4 = vec4<f32>;
alias Raw1 = f32;

fn unpack4(raw: Raw4) -> vec4<f32> { return raw; }
fn pack4(x: vec4<f32>) -> Raw4 { return x; }

fn word_of(element: u32) -> u32 { return element; }
fn unpack1(raw: Raw1, element: u32) -> f32 { return raw; }
