/** A bzImage made by hand: the least that can be booted, to be spoilt field by field. */
import { setupOffset } from "../../../../src/arch/x86/linux/bz-image.ts";

export const SETUP_SECTORS = 3;
export const PAYLOAD_BYTES = 0x1000;

export function makeBzImage(spoil: (view: DataView) => void = () => {}): Uint8Array {
  const at = setupOffset;
  const start = (SETUP_SECTORS + 1) * 512;
  const bytes = new Uint8Array(start + PAYLOAD_BYTES);
  bytes.fill(0x90, start);
  bytes.set(Buffer.from("6.12.117+deb12-amd64 (x@y) #1\0", "latin1"), 0x400);
  const view = new DataView(bytes.buffer);
  view.setUint8(at.setupSects, SETUP_SECTORS);
  view.setUint32(at.sysSize, PAYLOAD_BYTES / 16, true);
  view.setUint16(at.bootFlag, 0xaa55, true);
  view.setUint8(at.jump, 0x6a);
  view.setUint32(at.magic, 0x53726448, true);
  view.setUint16(at.version, 0x20f, true);
  view.setUint16(at.kernelVersion, 0x200, true);
  view.setUint32(at.initrdAddressMax, 0x7fffffff, true);
  view.setUint32(at.kernelAlignment, 0x200000, true);
  view.setUint16(at.xloadFlags, 0x7f, true);
  view.setUint32(at.cmdlineSize, 2047, true);
  view.setBigUint64(at.prefAddress, 0x1000000n, true);
  view.setUint32(at.initSize, 0x3000000, true);
  spoil(view);
  return bytes;
}
