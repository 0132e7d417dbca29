//! Finding the files to put.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use walkdir::WalkDir;

/// A file to put.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// The name that it gets in the store.
    pub(crate) name: String,
    /// Its length when it was found.
    pub(crate) len: u64,
}

/// Finds what the arguments of a put stand for, in the order of their names.
///
/// A file has its own name, one in a directory the path from there, with the directory's name in
/// front; `.` has none. Symbolic links in directories are not followed, and other things than
/// files are left out. So are files and directories with a name in `skip`.
pub(crate) fn find(paths: &[PathBuf], skip: &[&str]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut left_out = 0;
    for path in paths {
        let metadata = fs::metadata(path).with_context(|| cannot_read(path))?;
        let name = path.file_name().map_or(Path::new(""), Path::new);
        if metadata.is_dir() {
            left_out += find_in(path, name, skip, &mut found)?;
        } else {
            found.push(Found {
                path: path.clone(),
                name: text(name)?,
                len: metadata.len(),
            });
        }
    }
    if left_out > 0 {
        log::warn!("left out what is neither file nor directory: {left_out}; --verbose names them");
    }
    Ok(found)
}

/// Returns how many things it has left out.
fn find_in(directory: &Path, name: &Path, skip: &[&str], found: &mut Vec<Found>) -> Result<usize> {
    let mut left_out = 0;
    let is_wanted = |entry: &walkdir::DirEntry| {
        let name = entry.file_name();
        entry.depth() == 0 || !skip.iter().any(|skipped| name == *skipped)
    };
    let entries = WalkDir::new(directory).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(is_wanted) {
        let entry = entry.with_context(|| cannot_read(directory))?;
        let kind = entry.file_type();
        if kind.is_file() {
            let below = entry.path().strip_prefix(directory)?;
            found.push(Found {
                name: text(&name.join(below))?,
                len: entry.metadata()?.len(),
                path: entry.into_path(),
            });
        } else if !kind.is_dir() {
            log::debug!("{} is left out", entry.path().display());
            left_out += 1;
        }
    }
    Ok(left_out)
}

fn text(name: &Path) -> Result<String> {
    let text = name.to_str();
    let not_text = || anyhow!("the name of {} is not UTF-8", name.display());
    Ok(text.ok_or_else(not_text)?.to_owned())
}

pub(crate) fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
