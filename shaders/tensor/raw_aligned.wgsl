// Elements four at a time, as they are stored, to be widened where they are used: registers of 16-bit storage are half as many.
fn q_raw4(row: u32, c: u32) -> QRaw4 { return q[(row >> 2u) + c]; }
fn k_raw4(row: u32, c: u32) -> KRaw4 { return k[(row >> 2u) + c]; }
fn v_raw4(row: u32, c: u32) -> VRaw4 { return v[(row >> 2u) + c]; }
