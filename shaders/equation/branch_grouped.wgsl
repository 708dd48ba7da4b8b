// Far keys: groups of positions count as one, and stand behind the near ones.
fn group_of(x: i32) -> i32 {
    let size = i32(BRANCH_GROUP);
    return x / size - select(0, 1, x % size < 0);
}
fn branch_query(m: i32) -> i32 { return group_of(m) + i32(BRANCH_WINDOW - BRANCH_WINDOW / BRANCH_GROUP); }
fn branch_key(n: i32) -> i32 { return group_of(n); }
