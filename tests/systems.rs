//! The table of systems tells the truth: about specs, plans, stored cases and what is printed from it.

use ropewalk::systems::{Stretch, System, Term, markdown_page, markdown_table, system, systems};
use ropewalk::{EmbedShape, Kernel, Limits, Plan, RelativeSide, Shape, Spec};
use std::collections::BTreeSet;
use std::path::Path;

/// The terms that a spec uses, in the equation's order.
fn terms(spec: &Spec) -> BTreeSet<Term> {
    let side = |side| spec.relative.iter().any(|r| r.side == side);
    let rotary = spec.rotary.as_ref();
    let used = [
        (Term::Norm, spec.norm.is_some()),
        (Term::Temperature, spec.temperature.is_some()),
        (Term::HeadScale, spec.head_scale),
        (Term::ContentBias, spec.content_bias),
        (Term::Rotation, rotary.is_some()),
        (Term::ValueRotation, rotary.is_some_and(|r| r.values)),
        (Term::Cap, spec.logits_soft_cap.is_some()),
        (Term::QueryRelative, side(RelativeSide::Key)),
        (Term::KeyRelative, side(RelativeSide::Query)),
        (Term::Bias, !spec.bias.is_empty()),
        (Term::OutputRotation, rotary.is_some_and(|r| r.output)),
        (Term::KeyBias, spec.key_bias),
        (Term::Dense, spec.dense_bias),
        (Term::Linear, spec.linear.is_some()),
        (Term::ScoreMod, spec.score_mod.is_some()),
        (Term::MaskMod, spec.mask_mod.is_some()),
        (Term::Sink, spec.sink.is_some()),
        (Term::ValueRelative, side(RelativeSide::Value)),
    ];
    used.into_iter().filter_map(|(term, used)| used.then_some(term)).collect()
}

#[test]
fn rows_are_complete_and_names_lead_to_one_system() {
    let mut names = BTreeSet::new();
    for s in systems() {
        for name in [s.name, s.title].iter().chain(s.aliases) {
            let known = names.insert(name.to_lowercase());
            assert!(known || s.name.eq_ignore_ascii_case(s.title), "{name} is taken");
            assert_eq!(system(&name.to_uppercase()).map(|s| s.name), Some(s.name));
        }
        for text in [s.formula, s.place, s.paper, s.traps] {
            assert!(text.len() > 3, "{}", s.name);
        }
        assert!(s.traps.ends_with('.') && !s.place.ends_with('.') && !s.variants.ends_with('.'), "{}", s.name);
        assert!((2017..2030).contains(&s.year) && !s.golden.is_empty(), "{}", s.name);
        assert!(s.terms.is_sorted(), "{}: terms stand in the equation's order", s.name);
        assert!(s.missing.is_some() || !s.terms.is_empty(), "{}", s.name);
    }
    assert!(system("no such system").is_none());
}

#[test]
fn specs_use_the_terms_of_their_row() {
    for s in systems() {
        if let Some(spec) = s.spec() {
            spec.validate().unwrap();
            assert_eq!(terms(&spec), s.terms.iter().copied().collect(), "{}", s.name);
        }
    }
}

#[test]
fn supported_systems_build_and_others_do_not() {
    for s in systems() {
        if let Some(spec) = s.spec() {
            let kernel = if spec.linear.is_some() { Kernel::Linear } else { Kernel::Attention };
            let plan = Plan::new(kernel, &spec, &Shape::new(&spec, 1, 49, 49), &Limits::default());
            let validated = cfg!(feature = "naga") || spec.score_mod.is_none();
            assert_eq!(plan.is_ok(), s.supported() && validated, "{}: {:?}", s.name, plan.err());
        }
        if let Some(embed) = s.embed() {
            assert_eq!(s.terms, [Term::Embed]);
            let plan = Plan::embed(&embed, &EmbedShape::new(&embed, 1, 8), false, &Limits::default());
            assert!(plan.is_ok() && s.supported(), "{}: {:?}", s.name, plan.err());
        }
    }
}

#[test]
fn length_extensions_give_frequencies() {
    let stretch = Stretch { rotary_dim: 128, trained: 4096, factor: 8.0 };
    let extensions: Vec<&System> = systems().iter().filter(|s| s.scaling(stretch).is_some()).collect();
    assert_eq!(extensions.len(), 8);
    for s in extensions {
        let (inv_freq, _) = s.scaling(stretch).unwrap().inv_freq(10_000.0, 128).unwrap();
        assert_eq!(inv_freq.len(), 64);
        let plain = 10_000f64.powf(-126.0 / 128.0);
        let divided = if s.name == "rope" { 1.0 } else { 8.0 };
        match s.name {
            "proportional" => assert_eq!(inv_freq[63], 0.0),
            "dynamic" => assert!(plain / inv_freq[63] > 8.0),
            _ => assert!((plain / inv_freq[63] / divided - 1.0).abs() < 1e-9, "{}", s.name),
        }
    }
}

#[test]
fn stored_cases_exist() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    if !golden.join("01_sinusoidal").is_dir() {
        println!("LEFT OUT: no tests/golden/01_sinusoidal (a published package has 08_rope_scaling alone)");
        return;
    }
    for s in systems() {
        for case in s.golden {
            let (folder, name) = case.split_once('/').expect("folder/case");
            assert!(!name.is_empty() && folder.as_bytes()[..2].iter().all(u8::is_ascii_digit), "{case}");
        }
        let held = s.golden.iter().any(|case| golden.join(format!("{case}.safetensors")).is_file());
        assert!(held || !s.supported(), "{}: none of {:?} is in tests/golden", s.name, s.golden);
    }
}

/// What stands between the two comments of a file.
fn written(file: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()?;
    let (_, rest) = text.split_once("<!-- systems: written by ")?;
    let (_, rest) = rest.split_once('\n')?;
    Some(rest.split_once("<!-- end of systems -->")?.0.trim_end().to_string())
}

#[test]
fn readme_and_page_are_up_to_date() {
    for (file, part, wanted) in
        [("README.md", "table", markdown_table()), ("docs/equation.md", "page", markdown_page())]
    {
        let found = written(file).unwrap_or_else(|| panic!("{file} lacks the comments around the systems"));
        assert!(found == wanted, "{file} is out of date: run `ropewalk systems --markdown {part} --into {file}`");
    }
}

#[test]
fn a_stretch_of_more_than_a_head_is_refused_by_its_scaling() {
    for system in systems() {
        let scaling = system.scaling(Stretch { rotary_dim: u32::MAX - 1, trained: 256, factor: 4.0 });
        assert!(scaling.is_none_or(|scaling| scaling.inv_freq(1e4, u32::MAX - 1).is_err()), "{}", system.name);
    }
}
