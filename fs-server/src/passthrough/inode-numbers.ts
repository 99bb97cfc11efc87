/**
 * Inode numbers that are unique in the whole tree. A client sees one device for all of it, but a source may have several:
 * btrfs subvolumes, whose inodes are all counted from 256, and mounts that are crossed. Programs that tell files apart by
 * (st_dev, st_ino) - tar, cp -a, rsync -H, find, du - would take two files for one.
 *
 * What lies on the source's own device keeps its number. Another's is a function of device and number alone: the same for
 * every thread and after every start.
 */

/** Not the highest bit: programs print and keep numbers as signed ones. */
const FOREIGN = 1n << 62n;
const MIXED = 1n << 61n;
const INO_BITS = 33n;
/** 12 bits major and 20 bits minor; majors of block devices and of anonymous ones (0) are below 256. */
const DEVICE_MAX = 2 ** 28;

/** The number under which a client sees inode `ino` of `device`. @param home the source's own device */
export function shownInode(home: number, device: number, ino: bigint): bigint {
  if (device === home && ino < FOREIGN) return ino;
  if (device < DEVICE_MAX && ino < 1n << INO_BITS) return FOREIGN | (BigInt(device) << INO_BITS) | ino;
  // Too long for both side by side: unique but for one chance in 2^61 for each pair of files.
  return FOREIGN | MIXED | (mixed(BigInt(device) ^ mixed(ino)) >> 3n);
}

/** A bijection of 64 bits in which each bit depends on all (the finalizer of MurmurHash3). */
function mixed(value: bigint): bigint {
  let bits = BigInt.asUintN(64, value);
  bits = BigInt.asUintN(64, (bits ^ (bits >> 33n)) * 0xff51afd7ed558ccdn);
  bits = BigInt.asUintN(64, (bits ^ (bits >> 33n)) * 0xc4ceb9fe1a85ec53n);
  return bits ^ (bits >> 33n);
}
