import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { configOfImage, embeddedConfig } from "../../src/kernel/image-config.ts";
import { caseFolder } from "../support/folders.ts";

const text = "CONFIG_DEVMEM=y\n";
const image = (packed: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from("\x7fELF, code, IKCFG_ST", "latin1"), packed, Buffer.from("IKCFG_ED and more")]);

describe("the configuration of an image", () => {
  it("is found inside (CONFIG_IKCONFIG)", () => {
    expect(embeddedConfig(image(gzipSync(text)))).toBe(text);
  });

  it.each([
    ["none", Buffer.from("\x7fELF", "latin1")],
    ["half of one", Buffer.concat([Buffer.from("IKCFG_ST"), gzipSync(text)])],
    ["a damaged one", image(Buffer.from("no gzip"))],
  ])("is not known of an image with %s", (_, bytes) => {
    expect(embeddedConfig(bytes)).toBeNull();
  });

  it("is taken from the file of its release beside it first", () => {
    const folder = caseFolder();
    const path = join(folder, "vmlinuz-6.99");
    writeFileSync(path, image(gzipSync(text)));
    writeFileSync(join(folder, "config-6.99"), "CONFIG_ACPI=y\n");
    expect(configOfImage(path, "6.99")).toBe("CONFIG_ACPI=y\n");
    expect(configOfImage(path, "6.98")).toBe(text);
    expect(configOfImage(path, null)).toBe(text);
  });
});
