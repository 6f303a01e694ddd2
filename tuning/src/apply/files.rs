//! Files as they are, and files written whole.
//!
//! Here: what of a file is kept for the way back, how it is put there so that it is never half there, why it
//! could not be. Not here: which files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

/// What a file is, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileState {
    content: Content,
    mode: u32,
    /// User and group, where the file was read from the host; a new one belongs to whoever runs the program.
    owner: Option<(u32, u32)>,
}

/// Bytes of a file: as text where they are one, so that an operator can read the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Bytes(Vec<u8>),
    Text(String),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }
}

impl FileState {
    /// Returns the state of a file with this text.
    pub(super) fn of_text(text: &str, mode: u32) -> Self {
        Self {
            content: Content::Text(text.to_owned()),
            mode,
            owner: None,
        }
    }

    /// Reads a file; none is there, or why it is nothing that could be put back.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, String> {
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot be looked at: {error}")),
            Ok(metadata) => metadata,
        };
        if !metadata.is_file() {
            return Err("is no regular file (a link or a directory): move it away".to_owned());
        }
        let bytes =
            fs::read(path).map_err(|error| format!("cannot be read: {error}{}", fix(&error)))?;
        let content = match String::from_utf8(bytes) {
            Ok(text) => Content::Text(text),
            Err(error) => Content::Bytes(error.into_bytes()),
        };
        Ok(Some(Self {
            content,
            mode: metadata.mode() & MODE_BITS,
            owner: Some((metadata.uid(), metadata.gid())),
        }))
    }

    /// Whether it has these bytes and permissions.
    pub(super) fn is(&self, bytes: &[u8], mode: u32) -> bool {
        self.content.bytes() == bytes && self.mode == mode
    }
}

/// Writes a file whole: beside it, to disk, then in its place. Whoever looks sees the old one or the new one.
pub(super) fn write_file(path: &Path, state: &FileState) -> io::Result<()> {
    let directory = directory_of(path);
    make_directories(path)?;
    let beside = beside(path);
    remove_if_there(&beside)?;
    let written = write_new(&beside, state).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        // The first error is the one that matters.
        drop(fs::remove_file(&beside));
        return Err(error);
    }
    sync_directory(directory)
}

fn write_new(path: &Path, state: &FileState) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(state.mode)
        .open(path)?;
    file.write_all(state.content.bytes())?;
    if let Some((user, group)) = state.owner {
        fchown(&file, Some(user), Some(group))?;
    }
    // After the owner, whose change clears bits; and the umask has had its say at the opening.
    file.set_permissions(fs::Permissions::from_mode(state.mode))?;
    file.sync_all()
}

/// Creates a file that must not be there, whole and on disk.
pub(super) fn create_file(path: &Path, state: &FileState) -> io::Result<()> {
    let directory = directory_of(path);
    make_directories(path)?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let beside = beside(path);
    remove_if_there(&beside)?;
    // A link fails where a file has come in between; a rename would replace it.
    let written = write_new(&beside, state).and_then(|()| fs::hard_link(&beside, path));
    drop(fs::remove_file(&beside));
    written?;
    sync_directory(directory)
}

/// Removes a file, and what an interrupted write left beside it.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    remove_if_there(&beside(path))?;
    remove_if_there(path)?;
    match directory_of(path) {
        directory if directory.is_dir() => sync_directory(directory),
        _ => Ok(()),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a value of the kernel, byte for byte.
pub(super) fn read_value(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(VALUE_BYTES_MAX).read_to_string(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(bytes) if bytes < VALUE_BYTES_MAX => Ok(text),
        _ => Err(io::Error::other("it is longer than any value of a kernel")),
    }
}

/// Writes a value of the kernel in one call, as it takes them.
pub(super) fn write_value(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Returns why a value could not be written now.
pub(super) fn obstacle_of_value(path: &Path) -> Option<String> {
    // Opening changes nothing: a value is set by the write.
    let error = OpenOptions::new().write(true).open(path).err()?;
    Some(format!("{error}{}", fix(&error)))
}

/// Returns why a file could not be written now.
pub(super) fn obstacle_of_file(path: &Path) -> Option<String> {
    let mut directory = directory_of(path);
    while !directory.exists() {
        directory = directory.parent()?;
    }
    let error = io::Error::from(access(directory, Access::WRITE_OK).err()?);
    Some(format!(
        "{} may not be written: {error}{}",
        directory.display(),
        fix(&error)
    ))
}

/// Returns the directories of a file that are not there, the inner one first.
pub(super) fn missing_directories(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1);
    above
        .take_while(|directory| *directory != Path::new("") && !directory.exists())
        .map(Path::to_owned)
        .collect()
}

/// Makes the directories of a file, their names on disk as well.
fn make_directories(path: &Path) -> io::Result<()> {
    let missing = missing_directories(path);
    fs::create_dir_all(directory_of(path))?;
    let mut made = missing.iter();
    made.try_for_each(|directory| sync_directory(directory_of(directory)))
}

/// Returns what to do about an error, where that is known.
pub(super) fn fix(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; in a container it is set at the start (`ringway-tune render --profile container`)"
        }
        io::ErrorKind::StorageFull => "; make room on that disk",
        _ => "",
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

/// Makes names of a directory survive a loss of power.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Returns the name under which a file is written: always the same, so that a rollback finds what a killed
/// apply left.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".ringway-tune.tmp");
    name.into()
}

/// Permissions and the bits above them. Source: inode(7).
const MODE_BITS: u32 = 0o7777;

/// Bytes that no value of a kernel reaches: the longest, a list of all ports one by one, has 400 KiB.
const VALUE_BYTES_MAX: u64 = 1 << 20;
