//! The machine's secrets, each a file below /var/lib/orlop/secrets: 24 bytes of nonce, then the value, encrypted and bound to its name
//! (XChaCha20-Poly1305: nonces of this length may be random). What opens them is behind `Seal`, so that a TPM can take the place of the key
//! file. Whoever has the whole disk has the key file, too: it protects copies of single files, and it says who changed one.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use super::{paths::Paths, store};
use crate::api::{http::Answer, route::SecretCall, types::Secret};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// No secret's name begins with a dot.
const KEY_FILE: &str = ".key";

/// Requests and starts come in threads of their own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Something that encrypts for this machine alone.
trait Seal {
    fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, SecretError>;
    fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, SecretError>;
}

/// The key lies on the same disk.
struct KeyFile(XChaCha20Poly1305);

#[derive(Debug)]
pub(crate) enum SecretError {
    Missing(String),
    Exists(String),
    Name(String),
    /// It was changed, or the key is another.
    Broken(String),
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Missing(_) | Self::Exists(_) | Self::Name(_) | Self::Broken(_) => None,
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => {
                write!(f, "there is no secret {name}; make it with `orlop secret create {name} FILE`")
            }
            Self::Exists(name) => write!(f, "there is a secret {name}; change it with `orlop secret set {name} FILE`"),
            Self::Name(name) => {
                write!(f, "{name}: a secret's name has letters, digits, _, . and -, and begins with a letter or digit")
            }
            Self::Broken(name) => write!(
                f,
                "the secret {name} cannot be opened with this machine's key; give it again with `orlop secret set {name} FILE`"
            ),
            Self::File { action, path, source } => write!(f, "{action} {}: {source}", path.display()),
        }
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    let path = path.to_owned();
    move |source| SecretError::File { action, path, source }
}

impl Seal for KeyFile {
    fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload { msg: value, aad: name.as_bytes() };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload);
        let mut whole = nonce.to_vec();
        // It fails for what is longer than any memory.
        whole.extend(sealed.map_err(|_| SecretError::Broken(name.to_owned()))?);
        Ok(whole)
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
        let broken = || SecretError::Broken(name.to_owned());
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(broken)?;
        let payload = Payload { msg: text, aad: name.as_bytes() };
        self.0.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| broken())
    }
}

fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(at("read", path))?;
    Ok(bytes)
}

/// With the machine's key, which is made when it is first needed.
fn seal(paths: &Paths) -> Result<impl Seal + use<>, SecretError> {
    let folder = paths.secrets();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at("make the folder", &folder))?;
    let path = folder.join(KEY_FILE);
    let key = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key: [u8; KEY_BYTES] = random()?;
            keep(&path, &key, 0o400)?;
            key.to_vec()
        }
        read => read.map_err(at("read", &path))?,
    };
    let short = || at("read", &path)(io::Error::new(io::ErrorKind::InvalidData, "a key has 32 bytes"));
    let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| short())?;
    Ok(KeyFile(XChaCha20Poly1305::new(Key::from_slice(&key))))
}

/// The old or the new, whenever the power goes.
fn keep(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SecretError> {
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let write = || {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?.write_all(bytes)?;
        store::rename_durably(&unfinished, path)
    };
    write().map_err(at("write", path))
}

fn file(paths: &Paths, name: &str) -> Result<PathBuf, SecretError> {
    let is_name = name.len() <= 200
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    // A suffix, so that no name is the unfinished file's of another.
    if is_name { Ok(paths.secrets().join(format!("{name}.sealed"))) } else { Err(SecretError::Name(name.to_owned())) }
}

pub(crate) fn put(paths: &Paths, name: &str, value: &[u8], replace: bool) -> Result<(), SecretError> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = file(paths, name)?;
    match (path.exists(), replace) {
        (true, false) => return Err(SecretError::Exists(name.to_owned())),
        (false, true) => return Err(SecretError::Missing(name.to_owned())),
        _ => {}
    }
    keep(&path, &seal(paths)?.seal(name, value)?, 0o600)
}

pub(crate) fn get(paths: &Paths, name: &str) -> Result<Vec<u8>, SecretError> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = file(paths, name)?;
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SecretError::Missing(name.to_owned())),
        read => seal(paths)?.open(name, &read.map_err(at("read", &path))?),
    }
}

pub(crate) fn remove(paths: &Paths, name: &str) -> Result<(), SecretError> {
    let path = file(paths, name)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SecretError::Missing(name.to_owned())),
        removed => removed.map_err(at("remove", &path)),
    }?;
    // Whoever was told so finds it gone after a power cut, too.
    let folder = paths.secrets();
    fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(at("sync", &folder))
}

/// Names, and when each was given its value.
pub(crate) fn list(paths: &Paths) -> Result<Vec<(String, SystemTime)>, SecretError> {
    let folder = paths.secrets();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(at("list", &folder))?,
    };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".sealed"))
            && let Ok(changed) = entry.metadata().and_then(|meta| meta.modified())
        {
            all.push((name.to_owned(), changed));
        }
    }
    all.sort();
    Ok(all)
}

/// What a client asked for.
pub(crate) fn answer(paths: &Paths, call: SecretCall) -> Answer {
    let show = |name: &str| {
        file(paths, name)?;
        let found = list(paths)?.into_iter().find(|(found, _)| found == name);
        found.ok_or_else(|| SecretError::Missing(name.to_owned()))
    };
    let shown = |(name, changed): (String, SystemTime)| {
        let changed = jiff::Timestamp::try_from(changed).unwrap_or_default().to_string();
        Secret { name, changed }
    };
    let done = match call {
        SecretCall::List => list(paths).map(|all| Answer::json(200, &all.into_iter().map(shown).collect::<Vec<_>>())),
        SecretCall::Show(name) => show(&name).map(|secret| Answer::json(200, &shown(secret))),
        SecretCall::Put { name, value, replace } => put(paths, &name, &value.0, replace)
            .and_then(|()| show(&name))
            .map(|secret| Answer::json(200, &shown(secret))),
        SecretCall::Remove(name) => {
            show(&name).and_then(|secret| remove(paths, &name).map(|()| Answer::json(200, &shown(secret))))
        }
    };
    done.unwrap_or_else(|error| {
        let status = match error {
            SecretError::Missing(_) => 404,
            SecretError::Exists(_) => 409,
            SecretError::Name(_) => 400,
            SecretError::Broken(_) | SecretError::File { .. } => 500,
        };
        Answer::problem(status, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_secret_is_kept_sealed_and_bound_to_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        assert!(list(&paths).unwrap().is_empty());
        put(&paths, "db", b"hunter2 hunter2", false).unwrap();
        assert_eq!(get(&paths, "db").unwrap(), b"hunter2 hunter2");
        assert!(matches!(put(&paths, "db", b"x", false), Err(SecretError::Exists(_))));
        assert!(matches!(put(&paths, "web", b"x", true), Err(SecretError::Missing(_))));
        for entry in fs::read_dir(paths.secrets()).unwrap().flatten() {
            let text = fs::read(entry.path()).unwrap();
            assert!(!text.windows(7).any(|part| part == b"hunter2"), "{entry:?}");
        }
        assert_eq!(fs::metadata(paths.secrets().join(KEY_FILE)).unwrap().mode() & 0o777, 0o400);
        put(&paths, "db", b"", true).unwrap();
        assert_eq!(get(&paths, "db").unwrap(), b"");
        // What lies under another name, was changed, or is of another machine is not opened.
        fs::copy(paths.secrets().join("db.sealed"), paths.secrets().join("web.sealed")).unwrap();
        assert!(matches!(get(&paths, "web"), Err(SecretError::Broken(_))));
        fs::write(paths.secrets().join("web.sealed"), "short").unwrap();
        assert!(matches!(get(&paths, "web"), Err(SecretError::Broken(_))));
        assert_eq!(list(&paths).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["db", "web"]);
        remove(&paths, "db").unwrap();
        assert!(matches!(remove(&paths, "db"), Err(SecretError::Missing(_))));
        let said = get(&paths, "db").unwrap_err().to_string();
        assert!(said.contains("orlop secret create db"), "{said}");
        for wrong in ["", ".key", "../x", "a/b", "a b"] {
            assert!(matches!(get(&paths, wrong), Err(SecretError::Name(_))), "{wrong}");
        }
    }
}
