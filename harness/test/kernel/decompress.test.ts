/** The kernel in a bzImage, by the tools that its build uses; a tool that is not here is another test's business. */
import { spawnSync } from "node:child_process";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { vmlinuxOf } from "../../src/kernel/decompress.ts";

const vmlinux = Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46]), Buffer.alloc(100_000, 7)]);
const SETUP_BYTES = 4 * 512;
const PAYLOAD_OFFSET = 0x100;

/** @param spoil changes the finished image */
function bzImage(payload: Uint8Array, spoil: (image: Buffer) => void = () => {}): Buffer {
  const image = Buffer.alloc(SETUP_BYTES + PAYLOAD_OFFSET + payload.length + 64);
  image[0x1f1] = 3;
  image.write("HdrS", 0x202, "latin1");
  image.writeUInt32LE(PAYLOAD_OFFSET, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  image.set(payload, SETUP_BYTES + PAYLOAD_OFFSET);
  spoil(image);
  return image;
}

/** As the kernel's build has it: compressed, then the size. null: there is no such tool here. */
function compressed(tool: string, args: readonly string[] = []): Buffer | null {
  const { status, stdout } = spawnSync(tool, ["-c", ...args], { input: vmlinux });
  const size = Buffer.alloc(4);
  size.writeUInt32LE(vmlinux.length);
  return status === 0 ? Buffer.concat([stdout, size]) : null;
}

describe("vmlinuxOf", () => {
  const all: readonly (readonly [string, Buffer | null])[] = [
    ["gzip", gzipSync(vmlinux)],
    ["zstd", compressed("zstd", ["-q"])],
    ["xz", compressed("xz", ["--check=crc32"])],
    ["lz4", compressed("lz4", ["-l"])],
    ["bzip2", compressed("bzip2")],
  ];
  const here = all.flatMap(([name, payload]) => (payload === null ? [] : [[name, payload] as const]));

  it.each(here)("takes it out of %s", (_name, payload) => {
    expect(Buffer.compare(Buffer.from(vmlinuxOf(bzImage(payload)) ?? []), vmlinux)).toBe(0);
  });

  const gzip = gzipSync(vmlinux);
  it.each<[string, Buffer]>([
    ["no bzImage", Buffer.alloc(1000)],
    ["a short file", Buffer.alloc(10)],
    ["a payload beyond the file", bzImage(gzip, (image) => image.writeUInt32LE(0x7fffffff, 0x24c))],
    ["an offset beyond the file", bzImage(gzip, (image) => image.writeUInt32LE(0xffffffff, 0x248))],
    ["no payload", bzImage(gzip, (image) => image.writeUInt32LE(0, 0x24c))],
    ["a payload that is compressed by nothing known", bzImage(Buffer.alloc(1000, 1))],
    ["a payload that is damaged", bzImage(gzip.with(-6, 0xff ^ (gzip.at(-6) ?? 0)))],
    ["what is no ELF file", bzImage(gzipSync(Buffer.alloc(1000, 1)))],
  ])("has no answer for %s", (_name, image) => {
    expect(vmlinuxOf(image)).toBeNull();
  });
});
