//! A kernel module without what makes loading it dear and what only tracing and unwinding read. It lies beside the original,
//! which the machine takes where the kernel refuses this one.
//!
//! A module is a relocatable object: nothing in it knows where in the file something lies but the section headers. So a section is
//! left out by emptying its header, which keeps its number, and by writing the rest anew.

use goblin::elf::Elf;

/// SHT_RELA
const RELOCATIONS: u32 = 4;
/// SHT_NOBITS
const NO_BITS: u32 = 8;
const HEADER_BYTES: usize = 64;
/// e_shoff of the file's header; sh_type, sh_flags, sh_offset, sh_size of a section's.
const TABLE_AT: usize = 0x28;
const TYPE_AT: usize = 4;
const FLAGS_AT: usize = 8;
const OFFSET_AT: usize = 24;
const SIZE_AT: usize = 32;

/// r_info of an entry of such a section: the symbol, and the type below it.
const INFO_AT: usize = 8;
/// R_X86_64_PC32 and R_X86_64_PLT32
const CALLS: [u32; 2] = [2, 4];
/// `call` with its distance, and what the kernel makes of it (ftrace_nop_replace).
const CALL: u8 = 0xe8;
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];

/// What xfs alone took, in millions of instructions.
fn is_needless(name: &str, has_kfuncs: bool) -> bool {
    match name {
        // Where functions can be traced: the kernel looks each of them up in all of the module's symbols (1,250), and then
        // does what [`without_tracing_calls`] has done.
        "__mcount_loc" | "__patchable_function_entries" => true,
        // Trace events, and the names of their numbers, sought in the text of each event (180).
        "_ftrace_events" | "_ftrace_eval_map" => true,
        // How to unwind the stack, sorted at each load (50). A trace of a crash marks the module's lines with `?` instead.
        ".orc_unwind" | ".orc_unwind_ip" | ".orc_header" => true,
        // Types for tracers (20); functions offered to BPF need them.
        ".BTF" => !has_kfuncs,
        _ => false,
    }
}

/// The module without needless sections and signature, whose check took 17 million and 130 a byte. `None` when it is not what
/// this knows to take apart.
pub(crate) fn bare(module: &[u8]) -> Option<Vec<u8>> {
    let elf = Elf::parse(module).ok().filter(|elf| elf.is_64 && elf.little_endian)?;
    let module = &without_tracing_calls(module, &elf)?[..];
    let headers = &elf.section_headers;
    let name =
        |at: usize| headers.get(at).and_then(|header| elf.shdr_strtab.get_at(header.sh_name)).unwrap_or_default();
    let has_kfuncs = (0..headers.len()).any(|at| name(at) == ".BTF_ids");
    let table = usize::try_from(elf.header.e_shoff).ok()?;
    let each = usize::from(elf.header.e_shentsize);
    let mut table: Vec<u8> = module.get(table..)?.get(..each * headers.len())?.to_vec();
    let mut out = module.get(..HEADER_BYTES)?.to_vec();
    for (at, header) in headers.iter().enumerate() {
        let of = if header.sh_type == RELOCATIONS { usize::try_from(header.sh_info).ok()? } else { at };
        let entry = table.get_mut(at * each..)?;
        if is_needless(name(of), has_kfuncs) {
            // SHT_NULL, which the loader passes over.
            entry.get_mut(TYPE_AT..TYPE_AT + 4)?.fill(0);
            entry.get_mut(FLAGS_AT..FLAGS_AT + 8)?.fill(0);
            entry.get_mut(SIZE_AT..SIZE_AT + 8)?.fill(0);
        } else {
            align(&mut out, header.sh_addralign)?;
            entry.get_mut(OFFSET_AT..OFFSET_AT + 8)?.copy_from_slice(&(out.len() as u64).to_le_bytes());
            if header.sh_type != NO_BITS {
                out.extend_from_slice(header.file_range().map_or(Some(&[][..]), |range| module.get(range))?);
            }
        }
    }
    align(&mut out, 8)?;
    let place = (out.len() as u64).to_le_bytes();
    out.get_mut(TABLE_AT..TABLE_AT + 8)?.copy_from_slice(&place);
    out.extend_from_slice(&table);
    Some(out)
}

/// Each function of a traceable kernel begins with a call, on x86-64; the loader makes it a NOP, and finds it by the sections that
/// are left out (kernel/trace/ftrace.c, `ftrace_process_locs`). Elsewhere the compiler has left NOPs.
fn without_tracing_calls(module: &[u8], elf: &Elf<'_>) -> Option<Vec<u8>> {
    let mut out = module.to_vec();
    for (at, relocations) in &elf.shdr_relocs {
        let section = elf.section_headers.get(*at)?;
        let target = elf.section_headers.get(usize::try_from(section.sh_info).ok()?)?.file_range()?;
        for (number, relocation) in relocations.iter().enumerate() {
            let symbol = elf.syms.get(relocation.r_sym)?;
            if elf.strtab.get_at(symbol.st_name) != Some("__fentry__") {
                continue;
            }
            let call = usize::try_from(relocation.r_offset).ok()?.checked_sub(1)?;
            let call = out.get_mut(target.clone())?.get_mut(call..call + NOP.len())?;
            if call[0] != CALL || !CALLS.contains(&relocation.r_type) {
                return None;
            }
            call.copy_from_slice(&NOP);
            // R_X86_64_NONE of no symbol.
            let info = usize::try_from(section.sh_offset + number as u64 * section.sh_entsize).ok()? + INFO_AT;
            out.get_mut(info..info + 8)?.fill(0);
        }
    }
    Some(out)
}

fn align(out: &mut Vec<u8>, to: u64) -> Option<()> {
    out.resize(out.len().next_multiple_of(usize::try_from(to.max(1)).ok()?), 0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTIONS: [(&str, u32, &[u8]); 5] = [
        ("", 0, b""),
        (".text", 1, b"code"),
        ("__mcount_loc", 1, b"where"),
        (".BTF", 1, b"types"),
        (".shstrtab", 3, b"\0.text\0__mcount_loc\0.BTF\0.shstrtab\0.BTF_ids\0"),
    ];

    fn object(sections: &[(&str, u32, &[u8])]) -> Vec<u8> {
        object_of(SECTIONS[4].2, sections)
    }

    /// The names are the fifth section's; a symbol table's are the sixth's, relocations are of the second and the fourth's symbols.
    fn object_of(names: &[u8], sections: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let names = str::from_utf8(names).unwrap();
        let mut file = vec![0; HEADER_BYTES];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[0x10] = 1; // relocatable
        file[0x12] = 62; // x86-64
        let mut table = Vec::new();
        for (name, kind, bytes) in sections {
            let mut header = [0; 64];
            let at = names.find(name).unwrap();
            header[..4].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            header[TYPE_AT..TYPE_AT + 4].copy_from_slice(&kind.to_le_bytes());
            header[OFFSET_AT..OFFSET_AT + 8].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[SIZE_AT..SIZE_AT + 8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            file.extend_from_slice(bytes);
            (header[40], header[44], header[56]) = match *kind {
                RELOCATIONS => (3, 1, 24),
                2 => (5, 0, 24),
                _ => (0, 0, 0),
            };
            table.extend_from_slice(&header);
        }
        let place = (file.len() as u64).to_le_bytes();
        file[TABLE_AT..TABLE_AT + 8].copy_from_slice(&place);
        file[0x34] = 64;
        file[0x3a] = 64;
        file[0x3c] = u8::try_from(sections.len()).unwrap();
        file[0x3e] = 4;
        file.extend_from_slice(&table);
        file.extend_from_slice(b"signature~Module signature appended~\n");
        file
    }

    /// An object whose one relocation, at 2, names `__fentry__`.
    fn traced(text: &'static [u8], kind: u8) -> Vec<u8> {
        let relocation: &[u8] = &[&[2][..], &[0; 7], &[kind, 0, 0, 0, 1, 0, 0, 0], &[0xfc], &[0xff; 7]].concat();
        let symbols: &[u8] = &[&[0; 24][..], &[1], &[0; 23]].concat();
        let names = b"\0.text\0.rela.text\0.symtab\0.strtab\0.shstrtab\0";
        object_of(
            names,
            &[
                ("", 0, b""),
                (".text", 1, text),
                (".rela.text", RELOCATIONS, relocation),
                (".symtab", 2, symbols),
                (".shstrtab", 3, names),
                (".strtab", 3, b"\0__fentry__\0"),
            ],
        )
    }

    #[test]
    fn a_call_for_tracing_becomes_a_nop_and_what_is_none_is_left_alone() {
        for kind in [2, 4] {
            let bare = contents(&bare(&traced(b"\x90\xe8\0\0\0\0\xc3", kind)).unwrap());
            assert_eq!(bare[1].1, b"\x90\x0f\x1f\x44\0\0\xc3");
            assert_eq!(bare[2].1[8..16], [0; 8], "nothing is written there any more");
        }
        assert_eq!(bare(&traced(b"\x90\xe9\0\0\0\0\xc3", 4)), None, "a jump");
        assert_eq!(bare(&traced(b"\x90\xe8\0\0\0\0\xc3", 9)), None, "through a table");
        assert_eq!(bare(&traced(b"\x90\xe8\0", 4)), None, "cut off");
    }

    fn contents(module: &[u8]) -> Vec<(String, Vec<u8>)> {
        let elf = Elf::parse(module).unwrap();
        let of = |header: &goblin::elf::SectionHeader| {
            let name = elf.shdr_strtab.get_at(header.sh_name).unwrap().to_owned();
            (name, header.file_range().map(|range| module[range].to_vec()).unwrap_or_default())
        };
        elf.section_headers.iter().map(of).collect()
    }

    #[test]
    fn needless_sections_are_emptied_and_keep_their_number() {
        let bare = bare(&object(&SECTIONS)).unwrap();
        let found = contents(&bare);
        assert_eq!(found[1], (".text".to_owned(), b"code".to_vec()));
        assert_eq!((found[2].1.len(), found[3].1.len(), found.len()), (0, 0, 5));
        assert_eq!(found[4].1, SECTIONS[4].2);
        assert!(!bare.ends_with(b"appended~\n"), "no signature");
    }

    #[test]
    fn functions_for_bpf_keep_their_types() {
        let mut sections = SECTIONS.to_vec();
        sections.push((".BTF_ids", 1, b"ids"));
        assert_eq!(contents(&bare(&object(&sections)).unwrap())[3].1, b"types");
    }

    #[test]
    fn what_is_no_module_is_left_alone() {
        assert_eq!(bare(b""), None);
        assert_eq!(bare(b"\x7fELF\x02\x01\x01 and then nothing"), None);
    }
}
