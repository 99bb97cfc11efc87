/**
 * The ext4 of a guest's NVDIMM: made by hand, without a tool, the same bytes for the same file. One block group, no
 * journal, a root directory with `lost+found` and one file, whose blocks are one extent behind all metadata and aligned
 * to 2 MiB, so that the guest's kernel may map it by huge pages. Pure.
 *
 * What is made here are the blocks before the file's. The file's own are the case's file (nvdimm.ts).
 * Source: Documentation/filesystems/ext4/{super,group_descr,inodes,ifork,directory}.rst; `e2fsck -fn` finds nothing.
 */

const BLOCK_BYTES = 4096;
const BLOCKS_PER_GROUP = 32768;
/** An extent that is initialized has at most this many (EXT_INIT_MAX_LEN, fs/ext4/ext4_extents.h). */
const EXTENT_BLOCKS_MAX = 32768;
const INODES = 32;
const INODE_BYTES = 256;
/** Of an inode behind the first 128 bytes: i_extra_isize. */
const EXTRA_ISIZE = 32;
const SECTOR_BYTES = 512;

/** Block numbers. */
const at = {
  superblock: 0,
  groupDescriptors: 1,
  blockBitmap: 2,
  inodeBitmap: 3,
  inodeTable: 4,
  root: 6,
  lostAndFound: 7,
  free: 8,
  file: 512,
} as const;

const inode = { root: 2, firstUnreserved: 11, lostAndFound: 11, file: 12 } as const;

const mode = { directory: 0o040755, private: 0o040700, file: 0o100666 } as const;
const fileType = { regular: 1, directory: 2 } as const;
const EXTENTS_FL = 0x80000;
const EXTENT_MAGIC = 0xf30a;
const EXTENT_ENTRIES_MAX = 4;

const SUPERBLOCK_OFFSET = 1024;
const MAGIC = 0xef53;
const VALID_FS = 1;
const ERRORS_CONTINUE = 1;
const DYNAMIC_REV = 1;
const NO_LIMIT = 0xffff;
/** EXT4_FEATURE_INCOMPAT_FILETYPE, _EXTENTS; EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER, _LARGE_FILE, _EXTRA_ISIZE. */
const INCOMPAT = 0x2 | 0x40;
const RO_COMPAT = 0x1 | 0x2 | 0x40;

/** Where the file begins in the image: behind all metadata, aligned as a huge page is. */
export const FILE_OFFSET: number = at.file * BLOCK_BYTES;
/** Of the file: the group is full then. */
export const FILE_BYTES_MAX: number = (BLOCKS_PER_GROUP - at.file) * BLOCK_BYTES;

class Image {
  readonly bytes = new Uint8Array(FILE_OFFSET);
  readonly #view = new DataView(this.bytes.buffer);

  u16(offset: number, value: number): void {
    this.#view.setUint16(offset, value, true);
  }
  u32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }
  text(offset: number, value: string): void {
    this.bytes.set(new TextEncoder().encode(value), offset);
  }
  /** Sets bits of a block, from `from` to before `to`. */
  setBits(block: number, from: number, to: number): void {
    const base = block * BLOCK_BYTES;
    for (let bit = from; bit < to; bit += 1) {
      const byte = base + (bit >> 3);
      this.bytes[byte] = (this.bytes[byte] ?? 0) | (1 << (bit & 7));
    }
  }
}

const FREE_BLOCKS: number = at.file - at.free;
const FREE_INODES: number = INODES - inode.file;

function putSuperblock(image: Image, blocks: number): void {
  const base = SUPERBLOCK_OFFSET;
  const u32 = (offset: number, value: number): void => image.u32(base + offset, value);
  const u16 = (offset: number, value: number): void => image.u16(base + offset, value);
  u32(0x0, INODES);
  u32(0x4, blocks);
  u32(0xc, FREE_BLOCKS);
  u32(0x10, FREE_INODES);
  // s_log_block_size and s_log_cluster_size: 1024 << 2.
  u32(0x18, 2);
  u32(0x1c, 2);
  u32(0x20, BLOCKS_PER_GROUP);
  u32(0x24, BLOCKS_PER_GROUP);
  u32(0x28, INODES);
  u16(0x36, NO_LIMIT);
  u16(0x38, MAGIC);
  u16(0x3a, VALID_FS);
  u16(0x3c, ERRORS_CONTINUE);
  u32(0x4c, DYNAMIC_REV);
  u32(0x54, inode.firstUnreserved);
  u16(0x58, INODE_BYTES);
  u32(0x60, INCOMPAT);
  u32(0x64, RO_COMPAT);
  // s_uuid: 16 bytes, not zero.
  image.text(base + 0x68, "daxfault-nvdimm.");
  image.text(base + 0x78, "daxfault");
  // s_min_extra_isize and s_want_extra_isize.
  u16(0x15c, EXTRA_ISIZE);
  u16(0x15e, EXTRA_ISIZE);
}

function putGroup(image: Image, blocks: number): void {
  const base = at.groupDescriptors * BLOCK_BYTES;
  image.u32(base, at.blockBitmap);
  image.u32(base + 4, at.inodeBitmap);
  image.u32(base + 8, at.inodeTable);
  image.u16(base + 12, FREE_BLOCKS);
  image.u16(base + 14, FREE_INODES);
  // bg_used_dirs_count
  image.u16(base + 16, 2);
  image.setBits(at.blockBitmap, 0, at.free);
  // What there is not, up to the end of the bitmap's block, is in use.
  image.setBits(at.blockBitmap, at.file, blocks);
  image.setBits(at.blockBitmap, blocks, 8 * BLOCK_BYTES);
  image.setBits(at.inodeBitmap, 0, inode.file);
  image.setBits(at.inodeBitmap, INODES, 8 * BLOCK_BYTES);
}

type Inode = {
  readonly mode: number;
  readonly links: number;
  readonly sizeBytes: number;
  /** Its blocks are one extent, from here. */
  readonly firstBlock: number;
};

function putInode(image: Image, number: number, { mode, links, sizeBytes, firstBlock }: Inode): void {
  const base = at.inodeTable * BLOCK_BYTES + (number - 1) * INODE_BYTES;
  const blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  image.u16(base, mode);
  image.u32(base + 0x4, sizeBytes);
  image.u16(base + 0x1a, links);
  image.u32(base + 0x1c, blocks * (BLOCK_BYTES / SECTOR_BYTES));
  image.u32(base + 0x20, EXTENTS_FL);
  const header = base + 0x28;
  image.u16(header, EXTENT_MAGIC);
  image.u16(header + 2, 1);
  image.u16(header + 4, EXTENT_ENTRIES_MAX);
  const extent = header + 12;
  image.u16(extent + 4, blocks);
  image.u32(extent + 8, firstBlock);
  image.u16(base + 0x80, EXTRA_ISIZE);
}

type Entry = { readonly inode: number; readonly name: string; readonly type: number };

/** A directory of one block: the last entry reaches to its end. */
function putDirectory(image: Image, block: number, entries: readonly Entry[]): void {
  const end = (block + 1) * BLOCK_BYTES;
  let offset = block * BLOCK_BYTES;
  for (const [index, { inode: number, name, type }] of entries.entries()) {
    const length = Math.ceil((8 + name.length) / 4) * 4;
    image.u32(offset, number);
    image.u16(offset + 4, index === entries.length - 1 ? end - offset : length);
    image.bytes[offset + 6] = name.length;
    image.bytes[offset + 7] = type;
    image.text(offset + 8, name);
    offset += length;
  }
}

/** Letters, digits, dots, dashes. */
const NAME = /^[\w.-]{1,64}$/;

/**
 * The first `FILE_OFFSET` bytes of the image; the file follows. Throws a RangeError for a file that has no room.
 * @param name of the file, in the root directory
 * @param sizeBytes of the file, whole blocks
 */
export function ext4Metadata(name: string, sizeBytes: number): Uint8Array {
  if (!NAME.test(name)) throw new RangeError(`${JSON.stringify(name)}: expected letters, digits, . and -`);
  const blocks = sizeBytes / BLOCK_BYTES;
  const limit = Math.min(FILE_BYTES_MAX, EXTENT_BLOCKS_MAX * BLOCK_BYTES);
  if (!Number.isInteger(blocks) || blocks < 1 || sizeBytes > limit) {
    throw new RangeError(`a file of ${sizeBytes} bytes: expected blocks of ${BLOCK_BYTES}, at most ${limit}`);
  }
  const image = new Image();
  putSuperblock(image, at.file + blocks);
  putGroup(image, at.file + blocks);
  const folder = { sizeBytes: BLOCK_BYTES };
  putInode(image, inode.root, { ...folder, mode: mode.directory, links: 3, firstBlock: at.root });
  putInode(image, inode.lostAndFound, {
    ...folder,
    mode: mode.private,
    links: 2,
    firstBlock: at.lostAndFound,
  });
  putInode(image, inode.file, { mode: mode.file, links: 1, sizeBytes, firstBlock: at.file });
  putDirectory(image, at.root, [
    { inode: inode.root, name: ".", type: fileType.directory },
    { inode: inode.root, name: "..", type: fileType.directory },
    { inode: inode.lostAndFound, name: "lost+found", type: fileType.directory },
    { inode: inode.file, name, type: fileType.regular },
  ]);
  putDirectory(image, at.lostAndFound, [
    { inode: inode.lostAndFound, name: ".", type: fileType.directory },
    { inode: inode.root, name: "..", type: fileType.directory },
  ]);
  return image.bytes;
}
