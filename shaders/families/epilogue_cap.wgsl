// Scores are capped, and nothing is added to them.
fn epilogue(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {
    (*s).a = capped((*s).a); (*s).b = capped((*s).b); (*s).c = capped((*s).c); (*s).d = capped((*s).d);
    (*s).e = capped((*s).e); (*s).f = capped((*s).f); (*s).g = capped((*s).g); (*s).h = capped((*s).h);
}
