//! The plugins as krew ships them: archive, manifest, installation, and the name in their help.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::{Output, Program, Session};
use tempfile::TempDir;

/// All platforms that a release has.
const TARGETS: [&str; 5] = [
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
];

/// The repository.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The plugins that are here: `mesh-proxyver` and so on.
fn plugins() -> Result<Vec<String>> {
    let folders = fs::read_dir(project().join("plugins"))?.collect::<Result<Vec<_>, _>>()?;
    let names = folders.iter().filter_map(|folder| Some(folder.file_name().to_str()?.strip_prefix("kubectl-")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    ensure!(names.iter().any(|name| name == "mesh-proxyver"), "the plugins are not where they should be: {names:?}");
    Ok(names)
}

/// The name of a plugin's file: `kubectl-mesh_proxyver`.
fn file_of(plugin: &str) -> String {
    format!("kubectl-{}", plugin.replace('-', "_"))
}

/// Runs a command to its success and returns what it wrote to both streams.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} ended with {}: {text}", output.status);
    Ok(text)
}

/// `krew/archive` with a binary that is there already, at a time that no commit moves.
fn archive(plugin: &str, binary: &Path, output: &Path) -> Command {
    let mut command = Command::new(project().join("krew/archive"));
    command.arg(plugin).arg("--binary").arg(binary).arg("--output").arg(output);
    command.env_remove("HOMEPAGE").env_remove("DOWNLOAD").env("SOURCE_DATE_EPOCH", "1700000000");
    command
}

/// A file that stands in for a binary, where nobody looks into it.
fn stand_in(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("stand-in");
    fs::write(&path, "#!/bin/sh\n")?;
    Ok(path)
}

/// Packs all plugins as they are built for the tests, for this machine: only the binaries differ from a release.
fn archives_of_tests() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for plugin in plugins()? {
        let session = support::plugin(&plugin)?;
        let binary =
            fs::canonicalize(session.home().join("bin").join(file_of(&plugin))).context("finding the plugin's binary")?;
        // What only a debugger wants takes longer to compress than all else.
        let stripped = folder.path().join(&plugin);
        run(Command::new("strip").arg("-o").arg(&stripped).arg(binary))?;
        run(&mut archive(&plugin, &stripped, folder.path()))?;
    }
    Ok(folder)
}

/// The names of what `folder` holds with this ending.
fn files(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.ends_with(ending).then_some(name));
    }
    names.sort();
    Ok(names)
}

/// Serves the files of `folder`, for as long as the tests run, and says where.
fn serve(folder: &Path) -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening")?;
    let address = listener.local_addr()?;
    let folder = folder.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &folder);
        }
    });
    Ok(format!("http://{address}"))
}

fn answer(mut stream: TcpStream, folder: &Path) -> Result<()> {
    let mut request = BufReader::new(stream.try_clone()?).lines();
    let first = request.next().context("a request has a line")??;
    request.find(|line| line.as_ref().map_or(true, String::is_empty));
    let path = first.split(' ').nth(1).context("a request has a path")?;
    match fs::read(folder.join(path.trim_start_matches('/'))) {
        Ok(body) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            stream.write_all(&body)?;
        }
        Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?,
    }
    Ok(())
}

/// A session in which `kubectl krew` works, with what it installs on PATH.
fn session_with_krew() -> Result<Session> {
    let session = Session::new()?;
    let home = session.home().to_owned();
    symlink(Program::Krew.path()?, home.join("bin/kubectl-krew")).context("linking krew")?;
    let session = session.env("PATH", path_of(&home)).env("KREW_ROOT", home.join("krew"));
    Ok(session.env("KREW_NO_UPGRADE_CHECK", "1"))
}

/// `krew/install` of these plugins in the environment of a session, from its home folder.
fn install(plugins: &[String], from: &Path, session: &Session) -> Command {
    let home = session.home();
    let mut command = Command::new(project().join("krew/install"));
    command.args(plugins).arg("--from").arg(from).current_dir(home);
    command.env("PATH", path_of(home)).env("HOME", home).env("KREW_ROOT", home.join("krew")).env("KREW_NO_UPGRADE_CHECK", "1");
    command
}

fn path_of(home: &Path) -> String {
    format!("{0}/krew/bin:{0}/bin:/usr/bin:/bin", home.display())
}

/// The words in the help that say how to type the command, without what follows them.
fn typed(output: &Output) -> Result<&str> {
    let line = output.stdout.lines().find_map(|line| line.strip_prefix("Usage: "));
    let line = line.with_context(|| format!("the help has no usage: {}", output.transcript()))?;
    Ok(line.find(" [").map_or(line, |end| &line[..end]))
}

#[test]
fn every_plugin_has_a_manifest() -> Result<()> {
    let manifests = files(&project().join("krew"), ".yaml")?;
    for plugin in plugins()? {
        assert!(manifests.contains(&format!("{plugin}.yaml")), "krew/{plugin}.yaml is missing: {manifests:?}");
    }
    Ok(())
}

#[test]
fn an_archive_holds_what_krew_asks_for_and_nothing_else() -> Result<()> {
    for plugin in plugins()? {
        let folder = tempfile::tempdir()?;
        run(archive(&plugin, &stand_in(folder.path())?, folder.path()).args(["--target", TARGETS[0]]))?;
        let name = format!("kubectl-{plugin}-v{}-{}.tar.gz", env!("CARGO_PKG_VERSION"), TARGETS[0]);
        assert_eq!(files(folder.path(), ".gz")?, [name.as_str()]);
        let listing = run(Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(folder.path().join(name)))?;
        let entries: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
        let names: Vec<&str> = entries.iter().filter_map(|entry| entry.last().copied()).collect();
        assert_eq!(names, ["CHANGELOG.md", "LICENSE", "README.md", &file_of(&plugin)]);
        // The first letter says that it is a regular file: krew refuses links.
        let modes: Vec<&str> = entries.iter().map(|entry| entry[0]).collect();
        assert_eq!(modes, ["-rw-r--r--", "-rw-r--r--", "-rw-r--r--", "-rwxr-xr-x"]);
        assert!(entries.iter().all(|entry| entry[1] == "0/0"), "{listing}");
    }
    Ok(())
}

#[test]
fn the_same_binary_gives_the_same_archive() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut archives = Vec::new();
    for (name, mode) in [("one", 0o700), ("other", 0o644)] {
        // Neither where, when nor with which mode the binary was written shows.
        let output = folder.path().join(name);
        fs::create_dir(&output)?;
        let binary = stand_in(&output)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(mode))?;
        run(archive("mesh-proxyver", &binary, &output).args(["--target", TARGETS[0]]))?;
        archives.push(fs::read(output.join(&files(&output, ".gz")?[0]))?);
        // Archives count in seconds.
        thread::sleep(Duration::from_millis(1100));
    }
    assert!(archives[0] == archives[1], "two archives of one binary differ");
    Ok(())
}

#[test]
fn krews_own_validation_accepts_the_manifests_and_installs_every_platform() -> Result<()> {
    for plugin in plugins()? {
        let folder = tempfile::tempdir()?;
        let binary = stand_in(folder.path())?;
        let address = serve(folder.path())?;
        for target in TARGETS {
            run(archive(&plugin, &binary, folder.path()).args(["--target", target]).env("DOWNLOAD", &address))?;
        }
        let manifest = folder.path().join(format!("{plugin}.yaml"));
        let session = session_with_krew()?;
        let mut validate = Command::new(Program::ValidateKrewManifest.path()?);
        let told = run(validate.arg("-manifest").arg(&manifest).env("PATH", path_of(session.home())))?;
        assert!(told.contains("all 5 spec.platforms installed fine"), "{told}");
    }
    Ok(())
}

#[test]
fn every_manifest_says_in_few_words_what_its_plugin_is_for() -> Result<()> {
    for manifest in files(&project().join("krew"), ".yaml")? {
        let text = fs::read_to_string(project().join("krew").join(&manifest))?;
        let short = text.lines().find_map(|line| line.trim().strip_prefix("shortDescription: ")).context("a manifest has one")?;
        assert!(short.len() <= 50 && short.contains("Istio") && !short.ends_with('.'), "{manifest}: {short}");
        let name = format!("  name: {}", manifest.trim_end_matches(".yaml"));
        assert!(text.lines().any(|line| line == name), "{manifest} has another name in it: {text}");
        assert!(text.contains(" --explain-rbac\n"), "{manifest} does not say how to see what it may need: {text}");
        let mut prose = text.lines().filter(|line| !line.starts_with('#'));
        assert!(prose.all(|line| line.len() <= 80), "{manifest}: {text}");
    }
    Ok(())
}

#[test]
fn nothing_of_the_template_is_left_in_a_manifest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = stand_in(folder.path())?;
    for plugin in plugins()? {
        run(&mut archive(&plugin, &binary, folder.path()))?;
        let text = fs::read_to_string(folder.path().join(format!("{plugin}.yaml")))?;
        assert!(!text.contains('@') && !text.contains('#'), "a placeholder or a comment is left: {text}");
        assert!(text.contains(&format!("  version: \"v{}\"\n", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.contains(&format!("    bin: {}\n", file_of(&plugin))), "{text}");
    }
    Ok(())
}

#[test]
fn the_musl_archive_stands_for_the_gnu_one_beside_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = stand_in(folder.path())?;
    for target in ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        run(archive("mesh-proxyver", &binary, folder.path()).args(["--target", target]))?;
    }
    let manifest = folder.path().join("mesh-proxyver.yaml");
    // krew refuses a manifest with two archives for one platform.
    run(Command::new(Program::ValidateKrewManifest.path()?).arg("-skip-install").arg("-manifest").arg(&manifest))?;
    let text = fs::read_to_string(&manifest)?;
    let uris = text.lines().filter(|line| line.trim().starts_with("uri:"));
    let targets: Vec<&str> = uris.filter_map(|uri| Some(uri.split_once("-v")?.1.split_once('-')?.1)).collect();
    assert_eq!(targets, ["aarch64-unknown-linux-gnu.tar.gz", "x86_64-unknown-linux-musl.tar.gz"]);
    Ok(())
}

#[test]
fn what_krew_knows_no_platform_for_leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = stand_in(folder.path())?;
    let mut command = archive("mesh-proxyver", &binary, folder.path());
    let error = run(command.args(["--target", "s390x-unknown-linux-gnu"])).unwrap_err().to_string();
    assert!(error.contains("no platform for s390x-unknown-linux-gnu"), "{error}");
    assert_eq!(files(folder.path(), "")?, ["stand-in"]);
    Ok(())
}

/// A folder for the front of PATH, with a program in it that is this script.
fn program(name: &str, script: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name);
    fs::write(&path, format!("#!/usr/bin/env bash\nset -euo pipefail\n{script}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// PATH with one more folder before the others.
fn with_first(folder: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").context("there is a PATH")?;
    Ok(env::join_paths(std::iter::once(folder.to_owned()).chain(env::split_paths(&path)))?)
}

/// `krew/archive` that builds, with a cargo in place of the real one whose build gives a file with this text.
fn archive_of_built(text: &str, output: &Path) -> Result<(TempDir, Command)> {
    let cargo = program(
        "cargo",
        r#"[[ $1 == build ]] || exec "$REAL_CARGO" "$@"
here=$(dirname "$0")
echo "a warning, as the compiler writes it" >&2
printf '%s' "$CARGO_ENCODED_RUSTFLAGS" >"$here/flags"
printf '%s\n' "$*" >"$here/arguments"
printf '%s' "$TEXT" >"$here/built"
printf '{"reason":"compiler-artifact","executable":null}\n{"reason":"compiler-artifact","executable":"%s"}\n' "$here/built"
"#,
    )?;
    let mut command = Command::new(project().join("krew/archive"));
    command.args(["mesh-proxyver", "--output"]).arg(output).env("PATH", with_first(cargo.path())?);
    command.env("REAL_CARGO", env!("CARGO")).env("TEXT", text).env("CARGO_HOME", "/home/a builder/.cargo");
    // Those of the run of the tests are not this build's.
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    Ok((cargo, command))
}

#[test]
fn no_path_of_the_building_machine_is_left_in_a_release() -> Result<()> {
    let output = tempfile::tempdir()?;
    let (cargo, mut command) = archive_of_built("/cargo/registry/src/a.rs", output.path())?;
    run(&mut command)?;
    let arguments = fs::read_to_string(cargo.path().join("arguments"))?;
    assert!(arguments.contains("--release --locked") && arguments.contains("json-render-diagnostics"), "{arguments}");
    let flags = fs::read_to_string(cargo.path().join("flags"))?;
    let prefixes: Vec<(&str, &str)> =
        flags.split('\x1f').filter_map(|flag| flag.strip_prefix("--remap-path-prefix=")?.rsplit_once('=')).collect();
    let names: Vec<&str> = prefixes.iter().map(|(_, name)| *name).collect();
    assert_eq!(names, ["/cargo", "/rust", "/target", "/source"], "{flags:?}");
    assert_eq!(prefixes[0].0, "/home/a builder/.cargo", "a space in a path does not cut it");
    assert_eq!(prefixes[3].0, fs::canonicalize(project())?.to_string_lossy());
    for (path, _) in prefixes {
        let output = tempfile::tempdir()?;
        let (_cargo, mut command) = archive_of_built(&format!("it says {path}/some/file.rs"), output.path())?;
        let error = run(&mut command).unwrap_err().to_string();
        assert!(error.contains(&format!("names {path}, a path of this machine")), "{error}");
        assert!(files(output.path(), "")?.is_empty(), "nothing is packed");
    }
    Ok(())
}

#[test]
fn a_tar_that_is_not_gnus_is_told_and_gtar_is_taken_before_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = stand_in(folder.path())?;
    let other = program("tar", "echo 'bsdtar 3.5.3 - libarchive 3.7.4'\n")?;
    let mut command = archive("mesh-proxyver", &binary, folder.path());
    let error = run(command.env("PATH", with_first(other.path())?)).unwrap_err().to_string();
    assert!(error.contains("is not GNU tar") && error.contains("gtar"), "{error}");
    symlink("/usr/bin/tar", other.path().join("gtar"))?;
    run(archive("mesh-proxyver", &binary, folder.path()).env("PATH", with_first(other.path())?))?;
    assert_eq!(files(folder.path(), ".gz")?.len(), 1);
    Ok(())
}

#[test]
fn paths_are_those_of_where_one_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    stand_in(folder.path())?;
    let mut command = archive("mesh-proxyver", Path::new("stand-in"), Path::new("here"));
    run(command.current_dir(folder.path()))?;
    assert_eq!(files(&folder.path().join("here"), ".gz")?.len(), 1);
    Ok(())
}

#[test]
fn krew_installs_them_kubectl_finds_them_and_krew_removes_them() -> Result<()> {
    let (plugins, from) = (plugins()?, archives_of_tests()?);
    let session = session_with_krew()?;
    let told = run(&mut install(&plugins, from.path(), &session))?;
    // Unlike an installation, a removal asks for an index first; a folder with a .git in it is one.
    fs::create_dir_all(session.home().join("krew/index/default/.git"))?;
    for plugin in plugins {
        assert!(told.contains(&format!("Installed plugin: {plugin}")), "{told}");
        let help = session.run([&plugin, "--help"])?;
        assert_eq!((help.code, typed(&help)?), (Some(0), format!("kubectl {plugin}").as_str()));
        let file = file_of(&plugin);
        let listed = session.run(["plugin", "list"])?;
        assert!(listed.stdout.contains(&format!("/krew/bin/{file}\n")), "{}", listed.transcript());

        let removed = session.run(["krew", "uninstall", &plugin])?;
        assert_eq!(removed.code, Some(0), "{}", removed.transcript());
        let gone = session.run([&plugin, "--help"])?;
        assert_ne!(gone.code, Some(0), "{}", gone.transcript());
        assert!(!session.run(["plugin", "list"])?.stdout.contains(&file));
    }
    Ok(())
}

#[test]
fn krew_refuses_an_archive_that_is_not_the_one_in_the_manifest() -> Result<()> {
    let from = tempfile::tempdir()?;
    run(&mut archive("mesh-proxyver", &stand_in(from.path())?, from.path()))?;
    let changed = from.path().join(files(from.path(), ".gz")?.remove(0));
    fs::write(&changed, [fs::read(&changed)?, vec![0]].concat())?;
    let plugins = ["mesh-proxyver".to_owned()];
    let error = run(&mut install(&plugins, from.path(), &session_with_krew()?)).unwrap_err().to_string();
    assert!(error.contains("checksum does not match"), "{error}");
    Ok(())
}

#[test]
fn without_krew_both_spellings_work_and_help_says_which_was_typed() -> Result<()> {
    let (plugins, from) = (plugins()?, archives_of_tests()?);
    // An archive of another release, which the manifest does not name.
    fs::write(from.path().join("kubectl-mesh-proxyver-v9.9.9-x86_64-unknown-linux-musl.tar.gz"), "")?;
    let session = Session::new()?;
    let bin = session.home().join("bin");
    // A folder as one types it: from where one is.
    run(install(&plugins, from.path(), &session).args(["--to", "bin"]))?;
    for plugin in plugins {
        let dashed = session.run([&plugin, "--help"])?;
        assert_eq!(typed(&dashed)?, format!("kubectl {plugin}"));
        let (first, second) = plugin.split_once('-').context("a plugin's name has two words")?;
        let apart = session.run([first, second, "--help"])?;
        assert_eq!(typed(&apart)?, format!("kubectl {first} {second}"));
        fs::copy(bin.join(file_of(&plugin)), bin.join(second))?;
        let bare = session.run_file(second, ["--help"])?;
        assert_eq!(typed(&bare)?, second);
        let version = session.run([&plugin, "--version"])?;
        assert_eq!(version.stdout, format!("kubectl {plugin} {}\n", env!("CARGO_PKG_VERSION")));
    }
    Ok(())
}
