//! Whole models that lie beside this file (`make_models.py` made them with transformers), with every cache.

use llm::attention::{Keys, Options, Place, Storage};
use llm::model::Model;
use llm::plain::Plain;
use llm::run::{Case, Outcome, Settings, run, run_plain, tolerance};
use ropewalk::Gpu;
use std::path::{Path, PathBuf};

fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut found: Vec<PathBuf> =
        all.read_dir().expect("tests/models").map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

fn read(folder: &Path) -> (Model, Case) {
    let case = Case::read(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let model = Model::read(folder, case.tokens()).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    (model, case)
}

fn every(of: impl Fn(Options)) {
    for place in [Place::Contiguous, Place::Slots, Place::Pages] {
        for keys in [Keys::Unrotated, Keys::Rotated] {
            of(Options { place, keys, storage: Storage::F32 });
        }
    }
}

fn passed(name: &str, outcome: Outcome) {
    assert!(outcome.passed(tolerance(Storage::F32)), "{name}: {outcome:?}");
    assert!(outcome.tokens >= 24 && outcome.logits > 1000, "{name}: {outcome:?}");
}

/// What the device is compared with after a shift: attention in f64 gives what transformers gives in float64, but for what transformers itself
/// rounds to float32 (norms, the softmax, angles).
#[test]
fn attention_in_f64_is_that_of_transformers() {
    for folder in folders() {
        let (model, case) = read(&folder);
        let mut plain = Plain::new(&model.config, &model.parameters, 1, case.tokens()).expect("attention");
        passed(&folder.display().to_string(), run_plain(&model, &case, &mut plain).expect("a run"));
    }
}

#[test]
fn every_cache_gives_the_logits_of_one_prompt_and_of_eight() {
    let gpu = Gpu::new().expect("an adapter");
    for folder in folders() {
        let (model, case) = read(&folder);
        every(|options| {
            for prompts in [1, 8] {
                let settings = Settings { options, prompts, shift: None };
                let name = format!("{}: {settings:?}", folder.display());
                passed(&name, run(&gpu, &model, &case, &settings, &|_| ()).unwrap_or_else(|e| panic!("{name}: {e}")));
            }
        });
    }
}

/// Rows of 16 elements, padded to a block each, of which two share a word; rotated and not, appended by the kernel.
#[test]
fn a_cache_in_blocks_keeps_to_its_tolerance() {
    let gpu = Gpu::new().expect("an adapter");
    let folder = folders().into_iter().find(|folder| folder.ends_with("llama")).expect("a llama");
    let (model, case) = read(&folder);
    for keys in [Keys::Unrotated, Keys::Rotated] {
        let options = Options { place: Place::Pages, keys, storage: Storage::Q8_0 };
        let settings = Settings { options, prompts: 3, shift: None };
        let outcome = run(&gpu, &model, &case, &settings, &|_| ()).expect("a run");
        assert!(outcome.passed(tolerance(Storage::Q8_0)) && outcome.tokens > 0, "{keys:?}: {outcome:?}");
        // the error of blocks is there
        assert!(outcome.worst > tolerance(Storage::F32), "{keys:?}: {outcome:?}");
    }
    // what norms rows takes no zeros behind them
    let folder = folders().into_iter().find(|folder| folder.ends_with("gemma3_text")).expect("a gemma");
    let (model, case) = read(&folder);
    let options = Options { place: Place::Pages, keys: Keys::Unrotated, storage: Storage::Q4_0 };
    let error = run(&gpu, &model, &case, &Settings { options, prompts: 1, shift: None }, &|_| ()).expect_err("refused");
    assert!(error.to_string().contains("take int8 or f8_e4m3"), "{error}");
}

/// Half-way the first 16 keys go and the others count from 0 again, on the device and in f64.
#[test]
fn a_context_that_shifts_keeps_to_f64() {
    let gpu = Gpu::new().expect("an adapter");
    for folder in folders() {
        let (model, case) = read(&folder);
        every(|options| {
            let settings = Settings { options, prompts: 3, shift: Some(16) };
            let name = format!("{}: {settings:?}", folder.display());
            passed(&name, run(&gpu, &model, &case, &settings, &|_| ()).unwrap_or_else(|e| panic!("{name}: {e}")));
        });
    }
}

#[test]
fn wrong_settings_and_logits_are_told() {
    let gpu = Gpu::new().expect("an adapter");
    let (model, case) = read(&folders()[0]);
    let options = Options { place: Place::Pages, keys: Keys::Unrotated, storage: Storage::F32 };
    let refused = |prompts, shift| {
        let settings = Settings { options, prompts, shift };
        run(&gpu, &model, &case, &settings, &|_| ()).expect_err("refused").to_string()
    };
    assert!(refused(0, None).contains("--prompts: is 0"));
    assert!(refused(1, Some(3)).contains("give a multiple of the 16 rows"));
    assert!(refused(1, Some(4096)).contains("--shift: is 4096"));
    // the logits of another model are not taken for right
    let (_, other) = read(&folders()[1]);
    let settings = Settings { options, prompts: 1, shift: None };
    let outcome = run(&gpu, &model, &other, &settings, &|_| ()).expect("a run");
    assert!(!outcome.passed(tolerance(Storage::F32)), "{outcome:?}");
}
