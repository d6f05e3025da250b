//! Replays the committed corpus of every fuzz target: what a fuzzer once found stays fixed.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/mod.rs"]
mod checks;

#[test]
fn every_input_passes_its_check() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, check) in checks::ALL {
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(target)).unwrap() {
            let path = entry.unwrap().path();
            // Shown when the check panics.
            eprintln!("{}", path.display());
            check(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no corpus");
    }
}

#[test]
fn every_target_is_known_to_both() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let mut found: Vec<String> = fs::read_dir(targets)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let known: Vec<&str> = checks::ALL.iter().map(|(target, _)| *target).collect();
    assert_eq!(found, known);
}
