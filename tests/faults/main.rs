//! The table of faults in `faults.md`: each was found once, in a plugin that was released, and has tests that would find it again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The folder above all packages.
fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("the package stands in a workspace")
}

/// The names of all tests in the sources below a folder: functions behind an attribute that ends in `test]`.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            tests_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_in(&fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?));
        }
    }
    Ok(())
}

fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = function {
            tests.extend(rest.split(['(', '<']).next().filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
    tests
}

/// The rows of the table: the fault, and the tests that are named for it.
fn rows(table: &str) -> Vec<(String, Vec<String>)> {
    let cells = table.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|')?.split_once('|'));
    let cells = cells.map(|(fault, tests)| (fault.trim(), tests));
    let rows = cells.filter(|(fault, _)| *fault != "Fault" && !fault.starts_with("---"));
    let names = |tests: &str| tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(|(fault, tests)| (fault.to_owned(), names(tests))).collect()
}

/// The names of all tests of the project.
fn tests_of(workspace: &Path) -> Result<BTreeSet<String>> {
    let mut there = BTreeSet::new();
    for folder in ["plugins", "shared", "tests"] {
        tests_below(&workspace.join(folder), &mut there)?;
    }
    ensure!(there.len() > 300, "only {} tests were found in the sources", there.len());
    Ok(there)
}

#[test]
fn every_fault_has_tests_and_every_test_that_it_names_is_there() -> Result<()> {
    let workspace = workspace()?;
    let there = tests_of(&workspace)?;
    let rows = rows(&fs::read_to_string(workspace.join("tests/faults/faults.md"))?);
    ensure!(rows.len() > 20, "only {} rows were found in the table", rows.len());
    let bare = rows.iter().filter(|(_, tests)| tests.is_empty()).map(|(fault, _)| format!("no test for: {fault}"));
    let gone = rows.iter().flat_map(|(fault, tests)| {
        tests.iter().filter(|test| !there.contains(*test)).map(move |test| format!("no test {test} is there, for: {fault}"))
    });
    let wrong: Vec<String> = bare.chain(gone).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_promise_of_the_readme_has_tests_that_are_there() -> Result<()> {
    let workspace = workspace()?;
    let there = tests_of(&workspace)?;
    let readme = fs::read_to_string(workspace.join("README.md"))?;
    let (_, section) = readme.split_once("\n## Safety\n").context("the section Safety")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let promises: Vec<&str> = section.lines().filter(|line| line.starts_with(|sign: char| sign.is_ascii_digit())).collect();
    ensure!(promises.len() == 10, "{} promises", promises.len());
    for promise in promises {
        let mut named = promise.split('`').skip(1).step_by(2).filter(|word| word.contains('_')).peekable();
        ensure!(named.peek().is_some(), "no test for: {promise}");
        let gone: Vec<&str> = named.filter(|name| !there.contains(*name)).collect();
        ensure!(gone.is_empty(), "{gone:?} are not there, for: {promise}");
    }
    Ok(())
}

#[test]
fn a_function_is_a_test_only_behind_the_attribute() {
    let source = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test]\nasync fn two() {}\n    #[test]\n    #[ignore]\n    fn three<T>() {}\n";
    assert_eq!(tests_in(source), ["one", "two", "three"]);
    let table = "| Fault | Tests |\n|---|---|\n| It broke | `one`, `two` |\n| It broke again | |\n";
    let expected = [("It broke", vec!["one", "two"]), ("It broke again", vec![])];
    let expected = expected.map(|(fault, tests)| (fault.to_owned(), tests.into_iter().map(str::to_owned).collect()));
    assert_eq!(rows(table), expected);
}
