//! The plugins as krew ships them: archive, manifest, installation, and the name in their help.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use support::{Output, Program, Session, plugin};

/// The repository.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command to its success and returns what it wrote to both streams.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} ended with {}: {text}", output.status);
    Ok(text)
}

/// Packs the plugin as it is built for the tests: only the binary differs from a release.
fn archive(output: &Path) -> Result<PathBuf> {
    let session = plugin("mesh-proxyver")?;
    let binary = fs::canonicalize(session.home().join("bin/kubectl-mesh_proxyver")).context("finding the plugin's binary")?;
    let mut command = Command::new(project().join("krew/archive"));
    run(command.arg("mesh-proxyver").arg("--binary").arg(binary).arg("--output").arg(output))?;
    let entries = fs::read_dir(output)?.collect::<Result<Vec<_>, _>>()?;
    let archive =
        entries.into_iter().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|extension| extension == "gz"));
    archive.context("krew/archive makes an archive")
}

fn help_of(output: &Output) -> &str {
    output.stdout.lines().find(|line| line.starts_with("Usage: ")).unwrap_or_default()
}

#[test]
fn the_archive_holds_what_krew_asks_for_and_nothing_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = archive(folder.path())?;
    let listing = run(Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(&archive))?;
    let entries: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.last().copied()).collect();
    assert_eq!(names, ["CHANGELOG.md", "LICENSE", "README.md", "kubectl-mesh_proxyver"]);
    let modes: Vec<&str> = entries.iter().map(|entry| entry[0]).collect();
    assert_eq!(modes, ["-rw-r--r--", "-rw-r--r--", "-rw-r--r--", "-rwxr-xr-x"]);
    Ok(())
}

#[test]
fn the_same_binary_gives_the_same_archive() -> Result<()> {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (one, other) = (fs::read(archive(one.path())?)?, fs::read(archive(other.path())?)?);
    assert!(one == other, "two archives of one binary differ");
    Ok(())
}

#[test]
fn krews_own_validation_accepts_the_manifest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    archive(folder.path())?;
    let manifest = folder.path().join("mesh-proxyver.yaml");
    // Without -skip-install it would fetch the archive from where releases are.
    run(Command::new(Program::ValidateKrewManifest.path()?).arg("-skip-install").arg("-manifest").arg(&manifest))?;
    let text = fs::read_to_string(&manifest)?;
    let short = text.lines().find_map(|line| line.trim().strip_prefix("shortDescription: ")).context("a manifest has one")?;
    assert!(short.len() <= 50 && short.contains("Istio") && !short.ends_with('.'), "{short}");
    assert!(!text.contains('@'), "a placeholder is left: {text}");
    Ok(())
}

#[test]
fn krew_installs_it_and_kubectl_finds_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = archive(folder.path())?;
    let session = Session::new()?;
    let root = session.home().join("krew");
    let path = format!("{}:{}:/usr/bin:/bin", root.join("bin").display(), session.home().join("bin").display());
    let session = session.env("KREW_ROOT", &root).env("PATH", path);
    let manifest = format!("--manifest={}", folder.path().join("mesh-proxyver.yaml").display());
    let archive = format!("--archive={}", archive.display());
    // Anything but an installation would ask for krew's index, which is not on this machine.
    let mut install = Command::new(Program::Krew.path()?);
    let told = run(install.args(["install", &manifest, &archive]).env("KREW_ROOT", &root).env("HOME", session.home()))?;
    assert!(told.contains("kubectl mesh-proxyver"), "{told}");

    let help = session.run(["mesh-proxyver", "--help"])?;
    assert_eq!((help.code, help_of(&help)), (Some(0), "Usage: kubectl mesh-proxyver [OPTIONS] [TYPE/NAME]..."));
    let listed = session.run(["plugin", "list"])?;
    assert!(listed.stdout.contains("kubectl-mesh_proxyver"), "{}", listed.transcript());
    Ok(())
}

#[test]
fn without_krew_both_spellings_work_and_help_says_which_was_typed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    archive(folder.path())?;
    let session = Session::new()?;
    let bin = session.home().join("bin");
    let mut install = Command::new(project().join("krew/install"));
    run(install.arg("mesh-proxyver").arg("--from").arg(folder.path()).arg("--to").arg(&bin))?;
    fs::copy(bin.join("kubectl-mesh_proxyver"), bin.join("proxyver"))?;
    let dashed = session.run(["mesh-proxyver", "--help"])?;
    assert_eq!(help_of(&dashed), "Usage: kubectl mesh-proxyver [OPTIONS] [TYPE/NAME]...");
    let apart = session.run(["mesh", "proxyver", "--help"])?;
    assert_eq!(help_of(&apart), "Usage: kubectl mesh proxyver [OPTIONS] [TYPE/NAME]...");
    let bare = session.run_file("proxyver", ["--help"])?;
    assert_eq!(help_of(&bare), "Usage: proxyver [OPTIONS] [TYPE/NAME]...");
    let version = session.run(["mesh-proxyver", "--version"])?;
    assert_eq!(version.stdout, format!("kubectl mesh-proxyver {}\n", env!("CARGO_PKG_VERSION")));
    Ok(())
}
