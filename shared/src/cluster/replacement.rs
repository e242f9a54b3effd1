//! A file that is written as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// More links than this lead nowhere (`MAXSYMLINKS` of Linux).
const LONGEST_CHAIN: usize = 40;

/// Writes a file that only this user can read, beside the one of that name, and puts it in its place when it is whole and on the
/// disk. What was there stays as it was until then. A link stays, and what it leads to is replaced; a pipe or a device is written to.
///
/// # Errors
/// When it cannot be written: then nothing has changed.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let found = fs::metadata(path).ok();
    // What a shell has redirected stands behind a link there, and must stay the same file.
    let is_stream = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
    if found.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if is_stream || found.is_some_and(|found| !found.is_file()) {
        let mut stream = BufWriter::new(OpenOptions::new().append(true).open(path)?);
        write(&mut stream)?;
        return stream.flush();
    }
    let target = behind_links(path)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(target.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(folder)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|failed| failed.error)?;
    // The name is on the disk once its folder is. Not every file system can do that, and the file is whole either way.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The file that a chain of links leads to, whether it is there or not.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LONGEST_CHAIN {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => {
                let next = fs::read_link(&target)?;
                target = target.parent().unwrap_or(Path::new("")).join(next);
            }
            _ => return Ok(target),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_by_one_that_only_this_user_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", 0o600));
        assert_eq!(names(folder.path()), ["mesh.json"]);
    }

    #[test]
    fn a_file_that_cannot_be_written_whole_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.json");
        fs::write(&path, "old").unwrap();
        let error = replace(&path, |out| {
            out.write_all(&[b'x'; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["mesh.json"]);
        assert!(replace(&folder.path().join("nowhere/mesh.json"), |_| Ok(())).is_err());
        assert_eq!(replace(folder.path(), |_| Ok(())).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (link, other) = (folder.path().join("link"), folder.path().join("other"));
        fs::create_dir(folder.path().join("data")).unwrap();
        symlink("data/mesh.json", &other).unwrap();
        symlink("other", &link).unwrap();
        for text in ["one", "two"] {
            replace(&link, |out| out.write_all(text.as_bytes())).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(folder.path().join("data/mesh.json")).unwrap(), text);
        }
        let ring = folder.path().join("ring");
        symlink("ring", &ring).unwrap();
        assert!(replace(&ring, |_| Ok(())).is_err());
    }

    #[test]
    fn a_device_is_written_to_and_a_full_one_is_an_error() {
        replace(Path::new("/dev/null"), |out| out.write_all(b"x")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let full = replace(Path::new("/dev/full"), |out| out.write_all(b"x"));
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
