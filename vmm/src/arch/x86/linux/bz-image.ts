/**
 * A bzImage: what its setup header says, checked against the file (Documentation/arch/x86/boot.rst). Pure.
 *
 * Only kernels with a 64-bit entry (protocol 2.12, XLF_KERNEL_64) are taken. A kernel image comes from outside: each
 * number is used after it has been compared with the file and with the limits here.
 */

import { hex, type LinuxImage, LOWEST_KERNEL, refuse } from "./image.ts";

/** Offsets in the file, and in `struct boot_params`, where the setup header keeps its place. */
export const setupOffset = {
  setupSects: 0x1f1,
  sysSize: 0x1f4,
  bootFlag: 0x1fe,
  jump: 0x201,
  magic: 0x202,
  version: 0x206,
  kernelVersion: 0x20e,
  typeOfLoader: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  cmdLinePointer: 0x228,
  initrdAddressMax: 0x22c,
  kernelAlignment: 0x230,
  xloadFlags: 0x236,
  cmdlineSize: 0x238,
  prefAddress: 0x258,
  initSize: 0x260,
} as const;

/** Of the setup header in `struct boot_params`; what follows is EDD's. */
export const SETUP_END = 0x290;
const SECTOR_BYTES = 512;
const PARAGRAPH_BYTES = 16;
const BOOT_FLAG = 0xaa55;
const HDRS = 0x53726448; // "HdrS", little endian
const OLDEST_PROTOCOL = 0x20c;
const XLF_KERNEL_64 = 1;
/** From the load address: startup_64. */
const ENTRY_64 = 0x200n;
/** Room that a kernel may ask for: far above any. */
const MAX_INIT_BYTES: number = 1024 * 1024 * 1024;
const MAX_RELEASE_BYTES = 128;

function checkHead(view: DataView): void {
  if (view.byteLength < SETUP_END) {
    refuse(`${view.byteLength} bytes, a bzImage's header ends at ${SETUP_END}`);
  }
  const magic = view.getUint32(setupOffset.magic, true);
  if (magic !== HDRS) refuse(`no "HdrS" at ${hex(setupOffset.magic)}: no bzImage`);
  const flag = view.getUint16(setupOffset.bootFlag, true);
  if (flag !== BOOT_FLAG) refuse(`boot_flag is ${hex(flag)}, not ${hex(BOOT_FLAG)}`);
  const version = view.getUint16(setupOffset.version, true);
  if (version < OLDEST_PROTOCOL) {
    refuse(`boot protocol ${hex(version)}: at least ${hex(OLDEST_PROTOCOL)} (Linux 3.8) is needed`);
  }
  if ((view.getUint16(setupOffset.xloadFlags, true) & XLF_KERNEL_64) === 0) {
    refuse("xloadflags has no XLF_KERNEL_64: no 64-bit kernel");
  }
  const end = 0x202 + view.getUint8(setupOffset.jump);
  if (end < setupOffset.initSize + 4 || end > SETUP_END) {
    refuse(
      `the setup header ends at ${hex(end)}: expected ${hex(setupOffset.initSize + 4)} to ${hex(SETUP_END)}`,
    );
  }
}

function payloadOf(bytes: Uint8Array, view: DataView): Uint8Array {
  // 0 means 4; the boot sector comes on top.
  const start = ((view.getUint8(setupOffset.setupSects) || 4) + 1) * SECTOR_BYTES;
  const length = view.getUint32(setupOffset.sysSize, true) * PARAGRAPH_BYTES;
  if (length <= Number(ENTRY_64)) refuse(`syssize is ${length} bytes: there is no 64-bit entry`);
  if (start + length > bytes.length) {
    refuse(`truncated: its header speaks of ${start + length} bytes, the file has ${bytes.length}`);
  }
  return bytes.subarray(start, start + length);
}

function checkPlace(
  view: DataView,
  payloadBytes: number,
): { readonly loadAddress: bigint; readonly initBytes: number } {
  const loadAddress = view.getBigUint64(setupOffset.prefAddress, true);
  const alignment = view.getUint32(setupOffset.kernelAlignment, true);
  if (alignment === 0 || (alignment & (alignment - 1)) !== 0) {
    refuse(`kernel_alignment is ${hex(alignment)}: no power of two`);
  }
  if (loadAddress < LOWEST_KERNEL || loadAddress >= 1n << 32n || loadAddress % BigInt(alignment) !== 0n) {
    refuse(`pref_address is ${hex(loadAddress)}: expected 1 MiB to 4 GiB, aligned to ${hex(alignment)}`);
  }
  const initBytes = view.getUint32(setupOffset.initSize, true);
  if (initBytes < payloadBytes || initBytes > MAX_INIT_BYTES) {
    refuse(`init_size is ${initBytes}: expected ${payloadBytes} (what is loaded) to ${MAX_INIT_BYTES}`);
  }
  return { loadAddress, initBytes };
}

/** The first word of the version text, which is for people: left empty where it makes no sense. */
function releaseOf(bytes: Uint8Array, view: DataView): string {
  const at = view.getUint16(setupOffset.kernelVersion, true) + SECTOR_BYTES;
  const text = Buffer.from(bytes.subarray(at, at + MAX_RELEASE_BYTES)).toString("latin1");
  return /^[\x21-\x7e]+/.exec(text)?.[0] ?? "";
}

/** Reads and checks a bzImage. Throws a BootImageError that names the field, its value and what was expected. */
export function parseBzImage(bytes: Uint8Array): LinuxImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkHead(view);
  const payload = payloadOf(bytes, view);
  const { loadAddress, initBytes } = checkPlace(view, payload.length);
  const end = 0x202 + view.getUint8(setupOffset.jump);
  return {
    release: releaseOf(bytes, view),
    setupHeader: bytes.subarray(setupOffset.setupSects, end),
    segments: [{ address: loadAddress, bytes: payload }],
    start: loadAddress,
    end: loadAddress + BigInt(initBytes),
    entry: loadAddress + ENTRY_64,
    maxCommandLineBytes: view.getUint32(setupOffset.cmdlineSize, true),
    maxInitrdAddress: BigInt(view.getUint32(setupOffset.initrdAddressMax, true)),
  };
}
