// One dispatch sees all keys of a row: nothing is carried, and o turns back at once.
fn resume(row: u32, o: ptr<function, OutRow>, state: ptr<function, State>) {}
fn suspend(row: u32, o: ptr<function, OutRow>, state: ptr<function, State>) -> bool {
    turn_output(o);
    return false;
}
