//! Selects kernel modules and closes the selection over their dependencies, at build time: the machine has no depmod
//! and no modules.dep, only `modules.orlop` and `modules.alias`.
//!
//! Dependencies, aliases and soft dependencies are what the kernel's build wrote into each module (`.modinfo`), the
//! same that depmod reads; so kmod is not needed on the host.

use crate::bare::bare;
use crate::error::{Error, Result, at, input};
use crate::kernel::Kernel;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const LISTS: &str = include_str!("../data/modules.conf");

/// What goes in where.
pub(crate) struct Selection {
    pub(crate) initramfs: Vec<Module>,
    /// Holds the initramfs' modules too: hardware that appears later needs them after the initramfs is gone.
    pub(crate) root: Vec<Module>,
}

/// One module, with everything it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// With underscores, as the kernel names it.
    pub(crate) name: String,
    /// Relative to the release's folder.
    pub(crate) path: PathBuf,
    /// All modules to load before, in order.
    pub(crate) depends: Vec<String>,
    aliases: Vec<String>,
    /// Whether it also lies there as every boot loads it: decompressed and [`bare`]. The kernel takes some 40 instructions a
    /// byte for xz; the initramfs as a whole and the root's erofs are compressed anyway, for a tenth of that.
    bare: bool,
}

impl Module {
    /// Its files in the machine: the distribution's own, and in front of it the bare one, which the machine tries first.
    pub(crate) fn files(&self, kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
        let path = kernel.modules.join(&self.path);
        let mut files = Vec::new();
        if self.bare {
            // The machine loads the original of one that is unlike those known here.
            let bare = bare(&decompressed(&path)?).map(|bare| (format!("{}.bare", self.path.display()), bare));
            files.extend(bare);
        }
        files.push((self.path.display().to_string(), fs::read(&path).map_err(at("read", &path))?));
        Ok(files)
    }
}

/// The lists of `data/modules.conf`.
struct Lists {
    soft: BTreeMap<String, String>,
    initramfs: Vec<Wanted>,
    root: Vec<Wanted>,
    bare: Vec<Wanted>,
}

struct Wanted {
    pattern: String,
    required: bool,
}

/// What one module's `.modinfo` says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Info {
    depends: Vec<String>,
    soft_before: Vec<String>,
    aliases: Vec<String>,
}

pub(crate) fn select(kernel: &Kernel) -> Result<Selection> {
    let lists = Lists::parse(LISTS);
    let mut index = Index::read(kernel, lists.soft)?;
    let mut initramfs = index.close(&lists.initramfs)?;
    let mut root = index.close(&lists.root)?;
    root.extend(initramfs.iter().cloned());
    root.sort_by(|a, b| a.name.cmp(&b.name));
    root.dedup();
    let bare = index.close(&lists.bare)?;
    for module in &mut root {
        module.bare = bare.iter().any(|other| other.name == module.name);
    }
    initramfs.iter_mut().for_each(|module| module.bare = true);
    Ok(Selection { initramfs, root })
}

/// `modules.orlop`: name, path and dependencies a line, separated by tabs.
pub(crate) fn orlop_text(modules: &[Module]) -> String {
    modules
        .iter()
        .map(|module| format!("{}\t{}\t{}\n", module.name, module.path.display(), module.depends.join(",")))
        .collect()
}

/// `modules.alias` in depmod's form, for the modules that are there.
pub(crate) fn alias_text(modules: &[Module]) -> String {
    let lines: BTreeSet<String> = modules
        .iter()
        .flat_map(|module| module.aliases.iter().map(move |alias| format!("alias {alias} {}\n", module.name)))
        .collect();
    lines.into_iter().collect()
}

/// All modules of a kernel by name; read when needed.
struct Index<'a> {
    kernel: &'a Kernel,
    paths: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    soft: BTreeMap<String, String>,
    read: BTreeMap<String, Info>,
}

impl<'a> Index<'a> {
    fn read(kernel: &'a Kernel, soft: BTreeMap<String, String>) -> Result<Self> {
        let folder = &kernel.modules;
        let mut paths = BTreeMap::new();
        for path in crate::digest::walk(&folder.join("kernel"))? {
            if let Some(name) = module_name(&path) {
                let relative = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
                paths.insert(name, relative);
            }
        }
        if paths.is_empty() {
            return Err(input(folder, "there are no kernel modules in this folder"));
        }
        let builtin = folder.join("modules.builtin");
        let builtin = fs::read_to_string(&builtin).map_err(at("read", &builtin))?;
        let builtin = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { kernel, paths, builtin, soft, read: BTreeMap::new() })
    }

    /// The wanted modules and all they depend on, sorted by name.
    fn close(&mut self, wanted: &[Wanted]) -> Result<Vec<Module>> {
        let mut names = BTreeSet::new();
        for want in wanted {
            let found: Vec<String> = self.paths.keys().filter(|name| matches(&want.pattern, name)).cloned().collect();
            if found.is_empty() && want.required && !self.builtin.contains(&want.pattern) {
                let release = self.kernel.release.clone();
                return Err(Error::NoModule { release, name: want.pattern.clone() });
            }
            for name in found {
                let mut before = Vec::new();
                self.visit(&name, &mut before, &mut Vec::new())?;
                names.extend(before);
            }
        }
        names.into_iter().map(|name| self.module(&name)).collect()
    }

    fn module(&mut self, name: &str) -> Result<Module> {
        let mut depends = Vec::new();
        self.visit(name, &mut depends, &mut Vec::new())?;
        depends.pop(); // the module itself comes last
        let aliases = self.info(name)?.aliases;
        let path = self.paths.get(name).cloned().unwrap_or_default();
        Ok(Module { name: name.to_owned(), path, depends, aliases, bare: false })
    }

    /// Appends what `name` needs, each once and after what it needs itself, then `name`.
    fn visit(&mut self, name: &str, order: &mut Vec<String>, open: &mut Vec<String>) -> Result<()> {
        if order.iter().any(|done| done == name) || open.iter().any(|done| done == name) {
            return Ok(());
        }
        open.push(name.to_owned());
        let info = self.info(name)?;
        let soft = info.soft_before.iter().filter_map(|soft| {
            let provider = self.soft.get(soft).unwrap_or(soft);
            self.paths.contains_key(provider).then(|| provider.clone())
        });
        let before: Vec<String> = soft.chain(info.depends.iter().cloned()).collect();
        for dependency in before {
            if self.builtin.contains(&dependency) {
                continue;
            }
            if !self.paths.contains_key(&dependency) {
                return Err(Error::NoModule { release: self.kernel.release.clone(), name: dependency });
            }
            self.visit(&dependency, order, open)?;
        }
        open.pop();
        order.push(name.to_owned());
        Ok(())
    }

    fn info(&mut self, name: &str) -> Result<Info> {
        if let Some(info) = self.read.get(name) {
            return Ok(info.clone());
        }
        let path = self.kernel.modules.join(self.paths.get(name).map_or(Path::new(name), PathBuf::as_path));
        let info = Info::parse(&modinfo(&path)?);
        self.read.insert(name.to_owned(), info.clone());
        Ok(info)
    }
}

impl Info {
    /// `.modinfo` is a list of `key=value`, each ended by a zero.
    fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for field in section.split(|byte| *byte == 0) {
            let Some((key, value)) = std::str::from_utf8(field).ok().and_then(|text| text.split_once('=')) else {
                continue;
            };
            match key {
                "depends" => info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(kernel_name)),
                "alias" => info.aliases.push(value.to_owned()),
                "softdep" => {
                    let words = value.split_whitespace().skip_while(|word| *word != "pre:").skip(1);
                    info.soft_before.extend(words.take_while(|word| !word.ends_with(':')).map(kernel_name));
                }
                _ => {}
            }
        }
        info
    }
}

impl Lists {
    fn parse(text: &str) -> Self {
        let mut lists = Self { soft: BTreeMap::new(), initramfs: Vec::new(), root: Vec::new(), bare: Vec::new() };
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let wanted = || Wanted { pattern: kernel_name(line.trim_end_matches('?')), required: !line.ends_with('?') };
            match section {
                _ if line.starts_with('[') => section = line,
                "[soft]" => {
                    lists.soft.extend(line.split_once(' ').map(|(name, by)| (kernel_name(name), kernel_name(by))));
                }
                "[initramfs]" => lists.initramfs.push(wanted()),
                "[bare]" => lists.bare.push(wanted()),
                _ => lists.root.push(wanted()),
            }
        }
        lists
    }
}

/// Module names have underscores wherever their file has hyphens.
fn kernel_name(name: &str) -> String {
    name.trim().replace('-', "_")
}

fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|end| name.strip_suffix(end)).map(kernel_name)
}

/// `*` stands for any text, once.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    }
}

/// A module as the kernel links it, with the signature behind its end.
fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(path).map_err(at("read", path))?;
    let mut module = Vec::new();
    let read = match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => liblzma::bufread::XzDecoder::new(&packed[..]).read_to_end(&mut module).map(drop),
        Some("zst") => zstd::stream::copy_decode(&packed[..], &mut module),
        Some("gz") => flate2::bufread::GzDecoder::new(&packed[..]).read_to_end(&mut module).map(drop),
        _ => {
            module = packed;
            Ok(())
        }
    };
    read.map_err(at("decompress", path))?;
    Ok(module)
}

/// The `.modinfo` section of a module.
fn modinfo(path: &Path) -> Result<Vec<u8>> {
    let module = decompressed(path)?;
    let elf = goblin::elf::Elf::parse(&module).map_err(|error| input(path, format!("not a kernel module: {error}")))?;
    let section = elf
        .section_headers
        .iter()
        .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))
        .and_then(|section| section.file_range())
        .and_then(|range| module.get(range))
        .ok_or_else(|| input(path, "not a kernel module: it has no .modinfo"))?;
    Ok(section.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(kernel: &Kernel, modules: &[(&str, &str)], builtin: &[&str]) -> Index<'static> {
        let mut index = Index {
            kernel: Box::leak(Box::new(kernel.clone())),
            paths: BTreeMap::new(),
            builtin: builtin.iter().map(|name| (*name).to_owned()).collect(),
            soft: BTreeMap::from([("crc32c".to_owned(), "crc32c_generic".to_owned())]),
            read: BTreeMap::new(),
        };
        for (name, info) in modules {
            index.paths.insert((*name).to_owned(), PathBuf::from(format!("kernel/{name}.ko")));
            index.read.insert((*name).to_owned(), Info::parse(info.replace(' ', "\0").replace('+', " ").as_bytes()));
        }
        index
    }

    fn kernel() -> Kernel {
        Kernel { release: "6.1".to_owned(), image: PathBuf::new(), vmlinux: None, modules: PathBuf::new() }
    }

    fn wanted(names: &[&str]) -> Vec<Wanted> {
        names
            .iter()
            .map(|name| Wanted { pattern: name.trim_end_matches('?').to_owned(), required: !name.ends_with('?') })
            .collect()
    }

    #[test]
    fn dependencies_come_first_all_of_them_once() {
        let modules = [
            ("dm_verity", "depends=dm-mod,dm-bufio,reed_solomon alias=dm-verity"),
            ("dm_bufio", "depends=dm-mod"),
            ("dm_mod", "depends="),
            ("reed_solomon", "license=GPL"),
            ("unrelated", ""),
        ];
        let found = index(&kernel(), &modules, &[]).close(&wanted(&["dm_verity"])).unwrap();
        let names: Vec<&str> = found.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["dm_bufio", "dm_mod", "dm_verity", "reed_solomon"]);
        assert_eq!(
            orlop_text(&found),
            "dm_bufio\tkernel/dm_bufio.ko\tdm_mod\ndm_mod\tkernel/dm_mod.ko\t\n\
             dm_verity\tkernel/dm_verity.ko\tdm_mod,dm_bufio,reed_solomon\nreed_solomon\tkernel/reed_solomon.ko\t\n"
        );
        assert_eq!(alias_text(&found), "alias dm-verity dm_verity\n");
    }

    #[test]
    fn soft_dependencies_are_loaded_before_when_they_are_modules() {
        let modules = [("libcrc32c", "softdep=pre:+crc32c+post:+other"), ("crc32c_generic", ""), ("other", "")];
        let found = index(&kernel(), &modules, &[]).close(&wanted(&["libcrc32c"])).unwrap();
        assert_eq!(orlop_text(&found).lines().last().unwrap(), "libcrc32c\tkernel/libcrc32c.ko\tcrc32c_generic");
        assert_eq!(found.len(), 2, "what is wanted afterwards is not needed to boot");
    }

    #[test]
    fn built_in_and_optional_modules_may_be_missing_required_ones_not() {
        let modules = [("erofs", "depends=libcrc32c")];
        let mut index = index(&kernel(), &modules, &["libcrc32c", "virtio_blk"]);
        assert_eq!(index.close(&wanted(&["erofs", "virtio_blk", "nvme?", "nft_*?"])).unwrap().len(), 1);
        let error = index.close(&wanted(&["xfs"])).unwrap_err().to_string();
        assert_eq!(error, "kernel 6.1 has no module xfs, which the machine needs to boot");
    }

    #[test]
    fn a_cycle_of_damaged_modules_ends() {
        let modules = [("a", "depends=b"), ("b", "depends=a")];
        assert_eq!(index(&kernel(), &modules, &[]).close(&wanted(&["a"])).unwrap().len(), 2);
    }

    #[test]
    fn the_lists_of_the_repository_are_well_formed() {
        let lists = Lists::parse(LISTS);
        let required: Vec<&str> =
            lists.initramfs.iter().chain(&lists.root).filter(|want| want.required).map(|want| &*want.pattern).collect();
        assert_eq!(required, ["virtio_blk", "erofs", "xfs", "overlay", "virtio_net"]);
        assert!(lists.soft.contains_key("crc32c"));
        assert!(matches("nft_*", "nft_ct") && !matches("nft_*", "nf_nat"));
    }
}
