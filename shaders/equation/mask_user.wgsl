// mask_mod(at), the user's function, which the file `mask_mod` holds. The last of the masks: asked only where the others see.
fn user_visible(at: ScoreAt) -> bool {
    var full = at;
    full.k_pos = k_position(at.batch, at.j);
    return mask_mod(user_at(full));
}
