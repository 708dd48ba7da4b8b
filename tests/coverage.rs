//! How many model types of transformers 5.24 are read from their default configuration: every attention of it, part by part and layer
//! by layer. `cargo test --test suite coverage:: -- --nocapture` prints what each is; README.md holds the table by group.
//!
//! `tests/coverage/types.json` lists the types with attention and positions, their own or through a text model, by what they need.

use ropewalk::{ConfigAttention, ConfigOptions, config_parts};
use serde_json::json;
use std::collections::BTreeMap;

enum Verdict {
    Read,
    Without,
    Refused(String),
}

fn verdict(model_type: &str) -> Verdict {
    let mut options = ConfigOptions::default();
    // some tables have a row for every distance
    options.seq_len = Some(512);
    let parts = match config_parts(&json!({ "model_type": model_type }).to_string(), &options) {
        Ok(parts) => parts,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    let (mut read, mut refused) = (false, None);
    for part in parts {
        match part.attention {
            ConfigAttention::Refused(error) => refused = refused.or(Some(error)),
            ConfigAttention::Stacks(stacks) => {
                for layer in stacks.into_iter().flat_map(|(_, layers)| layers) {
                    match layer {
                        Ok(spec) => read |= spec.is_some(),
                        Err(error) => refused = refused.or(Some(error)),
                    }
                }
            }
            _ => {}
        }
    }
    match (refused, read) {
        (Some(error), _) => Verdict::Refused(error.to_string()),
        (None, true) => Verdict::Read,
        (None, false) => Verdict::Without,
    }
}

#[test]
fn the_table_in_the_readme_is_what_is_read() {
    let path = |name: &str| format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    let types = std::fs::read_to_string(path("tests/coverage/types.json")).unwrap();
    let groups: BTreeMap<String, Vec<String>> = serde_json::from_str(&types).unwrap();
    let mut table = String::from("| model types | read | without attention | refused |\n|---|---|---|---|\n");
    let mut all = [0; 3];
    for (group, names) in &groups {
        let mut counts = [0; 3];
        for name in names {
            let at = match verdict(name) {
                Verdict::Read => 0,
                Verdict::Without => 1,
                Verdict::Refused(why) => {
                    println!("{name}: {why}");
                    2
                }
            };
            counts[at] += 1;
        }
        table += &format!("| {group} | {} | {} | {} |\n", counts[0], counts[1], counts[2]);
        all.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    table += &format!("| all {} | {} | {} | {} |\n", all.iter().sum::<i32>(), all[0], all[1], all[2]);
    println!("{table}");
    let readme = std::fs::read_to_string(path("README.md")).unwrap();
    assert!(readme.contains(&table), "README.md should hold this table:\n{table}");
}

/// Types whose modules say it in other words: scales that are part of q and k, of a norm, or of half of the products; parts of a class
/// that its first model does not hold.
const OTHERWISE: &[&str] = &[
    "openai_privacy_filter",
    "muse_glimmer_text",
    "muse_spark_text",
    "conditional_detr",
    "dab-detr",
    "videomae",
    "vit_mae",
    "xclip_vision_model",
    "phi4_multimodal",
    "bailing_hybrid",
    "glm5_next_text",
];

#[test]
fn heads_and_scales_are_those_of_the_classes_themselves() {
    let path = format!("{}/tests/coverage/classes.json", env!("CARGO_MANIFEST_DIR"));
    let classes: BTreeMap<String, BTreeMap<String, Vec<f64>>> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut compared = 0;
    for (name, facts) in classes.iter().filter(|(name, _)| !OTHERWISE.contains(&name.as_str())) {
        let mut options = ConfigOptions::default();
        options.seq_len = Some(512);
        let parts = config_parts(&json!({ "model_type": name }).to_string(), &options).unwrap();
        let own = parts.iter().filter(|part| part.path.is_empty() || part.path.starts_with('#'));
        for part in own {
            let ConfigAttention::Stacks(stacks) = &part.attention else { continue };
            for spec in stacks.iter().flat_map(|(_, layers)| layers).filter_map(|layer| layer.as_ref().ok()?.as_ref()) {
                compared += 1;
                let one = |kind: &str, value: f64| {
                    let near = |x: &f64| (x - value).abs() <= 2e-3 * x.abs();
                    let among = facts.get(kind).is_none_or(|list| list.iter().any(near));
                    assert!(among, "{name}{}: {kind} {value}, and the class has {:?}", part.path, facts.get(kind));
                };
                one("heads", spec.num_heads as f64);
                one("head_dim", spec.head_dim as f64);
                one("scale", spec.scale());
            }
        }
    }
    assert!(compared > 5000, "{compared}");
}
