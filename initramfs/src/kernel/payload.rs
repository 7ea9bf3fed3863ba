//! Takes the uncompressed kernel out of an x86 bzImage (Documentation/arch/x86/boot.rst), when that kernel can be
//! started directly by a machine monitor: it then carries an ELF note with its PVH entry point.

use std::io::Read as _;

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry point of the PVH start protocol.
const NOTE_PHYS32_ENTRY: u32 = 18;

/// A kernel is some 50 MiB; anything far beyond is not one.
const LIMIT_BYTES: u64 = 512 << 20;

pub(super) fn is_bzimage(image: &[u8]) -> bool {
    image.len() > 0x260 && image[BOOT_FLAG..BOOT_FLAG + 2] == [0x55, 0xaa] && &image[MAGIC..MAGIC + 4] == b"HdrS"
}

/// The decompressed payload of a bzImage that has a PVH entry. `None` for anything else (not an x86 image, an unknown
/// compression, no note): booting the image itself still works.
pub(super) fn payload(image: &[u8]) -> Option<Vec<u8>> {
    // Boot protocol 2.08 is the first to say where the payload is.
    if !is_bzimage(image) || word(image, VERSION) & 0xffff < 0x208 {
        return None;
    }
    // Zero means four, for the oldest images.
    let sectors = match image[SETUP_SECTS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + word(image, PAYLOAD_OFFSET) as usize;
    let compressed = image.get(start..start.checked_add(word(image, PAYLOAD_LENGTH) as usize)?)?;
    decompress(compressed).filter(|kernel| has_pvh_entry(kernel))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The build appends the uncompressed size (four bytes) to the stream, so decoders must stop at the stream's end.
fn decompress(data: &[u8]) -> Option<Vec<u8>> {
    let mut kernel = Vec::new();
    let read = match data {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::Decoder::with_buffer(data).ok()?.single_frame();
            decoder.take(LIMIT_BYTES).read_to_end(&mut kernel)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            liblzma::bufread::XzDecoder::new(data).take(LIMIT_BYTES).read_to_end(&mut kernel)
        }
        [0x1f, 0x8b, ..] => flate2::bufread::GzDecoder::new(data).take(LIMIT_BYTES).read_to_end(&mut kernel),
        [0x02, 0x21, 0x4c, 0x18, ..] => return lz4_legacy(&data[4..]),
        [0x7f, b'E', b'L', b'F', ..] => return Some(data.to_vec()),
        _ => return None,
    };
    read.ok().map(|_| kernel)
}

/// lz4's legacy frame, which the kernel's build still writes: blocks with their compressed size in front, each at
/// most 8 MiB unpacked; the trailing size of the kernel looks like one more block and ends the list.
fn lz4_legacy(mut data: &[u8]) -> Option<Vec<u8>> {
    const BLOCK_BYTES: usize = 8 << 20;
    let mut kernel = Vec::new();
    while data.len() > 4 {
        let length = word(data, 0) as usize;
        let Some(block) = data.get(4..4 + length) else { break };
        kernel.extend(lz4_flex::block::decompress(block, BLOCK_BYTES).ok()?);
        data = &data[4 + length..];
    }
    Some(kernel)
}

fn has_pvh_entry(kernel: &[u8]) -> bool {
    let Ok(elf) = goblin::elf::Elf::parse(kernel) else { return false };
    elf.iter_note_headers(kernel)
        .into_iter()
        .flatten()
        .flatten()
        .any(|note| note.n_type == NOTE_PHYS32_ENTRY && note.name == "Xen")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// The least ELF file with one PT_NOTE segment.
    fn elf(note_type: u32) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64
        file.extend(0u64.to_le_bytes()); // entry
        file.extend(64u64.to_le_bytes()); // program headers
        file.extend(0u64.to_le_bytes()); // section headers
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        let note: Vec<u8> = [4u32, 4, note_type]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain(*b"Xen\0")
            .chain(0x100_0000u32.to_le_bytes())
            .collect();
        file.extend([4, 0, 0, 0, 4, 0, 0, 0]); // PT_NOTE, readable
        for value in [120, 0, 0, note.len() as u64, note.len() as u64, 4] {
            file.extend(value.to_le_bytes());
        }
        file.extend(note);
        file
    }

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[SETUP_SECTS] = 1;
        image[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&[0x0f, 0x02]);
        image[PAYLOAD_OFFSET] = 7;
        let length = u32::try_from(payload.len() + 4).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend([0x90; 7]);
        image.extend(payload);
        image.extend(12_345_678u32.to_le_bytes()); // the size the build appends
        image.extend([0xcc; 100]);
        image
    }

    #[test]
    fn every_compression_of_the_kernels_build_is_read() {
        let kernel = elf(NOTE_PHYS32_ENTRY);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&kernel).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(&kernel).unwrap();
        let block = lz4_flex::block::compress(&kernel);
        let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
        lz4.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        lz4.extend(block);
        let streams = [
            ("zstd", zstd::encode_all(&kernel[..], 19).unwrap()),
            ("gzip", gzip.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("lz4", lz4),
        ];
        for (name, stream) in streams {
            assert_eq!(payload(&bzimage(&stream)), Some(kernel.clone()), "{name}");
        }
    }

    #[test]
    fn a_kernel_without_the_note_is_not_offered_for_direct_boot() {
        let stream = zstd::encode_all(&elf(NOTE_PHYS32_ENTRY + 1)[..], 3).unwrap();
        assert_eq!(payload(&bzimage(&stream)), None);
    }

    #[test]
    fn damaged_images_are_refused_not_trusted() {
        let mut cut = bzimage(&zstd::encode_all(&elf(NOTE_PHYS32_ENTRY)[..], 3).unwrap());
        cut.truncate(1100);
        assert_eq!(payload(&cut), None);
        assert_eq!(payload(b""), None);
        assert_eq!(payload(&bzimage(b"BZh9 is not expected")), None);
    }
}
