import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { obtainKernel } from "../../src/kernel/cache.ts";
import { KernelError } from "../../src/kernel/error.ts";
import { ModuleTree, moduleInfo } from "../../src/kernel/modules.ts";
import { caseFolder } from "../support/folders.ts";
import { bootImage, moduleBytes, neededModules, writeModules } from "../support/kernels.ts";

const release = "6.99.0-1-amd64";

describe("ModuleTree", () => {
  const namesOf = (folder: string, wanted: readonly string[]) =>
    new ModuleTree(folder).loadOrder(wanted).map(({ name }) => name);

  it("loads a module after what it needs, and after what it should have before it where that is there", () => {
    const folder = caseFolder();
    writeModules(folder, release, {
      "kvm-amd.ko": ["depends=kvm,ccp"],
      "kvm.ko": ["depends=irqbypass"],
      "ccp.ko": ["depends="],
      "irqbypass.ko": [],
      "ext4.ko": ["depends=jbd2", "softdep=pre: crc32c crc-generic"],
      "jbd2.ko": [],
      "crc-generic.ko": [],
    });
    expect(namesOf(folder, ["kvm_amd", "ext4"])).toEqual([
      "irqbypass",
      "kvm",
      "ccp",
      "kvm_amd",
      "crc_generic",
      "jbd2",
      "ext4",
    ]);
  });

  it("leaves out what is in the image, and names what is nowhere and who needs it", () => {
    const folder = caseFolder();
    writeModules(folder, release, { "9p.ko": ["depends=9pnet,netfs"], "netfs.ko": [] });
    expect(() => namesOf(folder, ["9p"])).toThrow(
      `${folder} has no module 9pnet, which 9p needs, nor is it in the image`,
    );
    appendFileSync(join(folder, "modules.builtin"), "kernel/net/9p/9pnet.ko\n");
    expect(namesOf(folder, ["9pnet", "9p"])).toEqual(["netfs", "9p"]);
  });

  it("reads compressed ones, and says which is damaged", () => {
    const folder = caseFolder();
    writeModules(folder, release, { "fuse.ko": ["license=GPL"] });
    execFileSync("gzip", [join(folder, "kernel/fuse.ko")]);
    const [fuse] = new ModuleTree(folder).loadOrder(["fuse"]);
    expect(moduleInfo(fuse?.bytes ?? new Uint8Array())).toContainEqual(["license", "GPL"]);
    writeFileSync(join(folder, "kernel/fuse.ko.gz"), "not gzip");
    expect(() => namesOf(folder, ["fuse"])).toThrow(/kernel\/fuse\.ko\.gz does not decompress/);
  });

  it("takes a file that is no ELF file for one that needs nothing", () => {
    expect(moduleInfo(Buffer.from("#!/bin/sh"))).toEqual([]);
    const whole = moduleBytes(["depends=a,b"]);
    for (let length = 0; length < whole.length; length += 1) moduleInfo(whole.subarray(0, length));
    for (const offset of [0x28, 0x3a, 0x3c, 0x3e]) {
      const lying = Buffer.from(whole);
      lying.writeUInt16LE(0xffff, offset);
      moduleInfo(lying);
    }
    expect(moduleInfo(moduleBytes(["depends=a,b"]))).toEqual([["depends", "a,b"]]);
  });
});

describe("--modules", () => {
  /** A folder with an image of a release. */
  function imageFolder(): { readonly folder: string; readonly image: string } {
    const folder = caseFolder();
    const image = join(folder, "bzImage");
    writeFileSync(image, bootImage({ release }));
    return { folder, image };
  }

  const modulesOf = async (image: string, directory: string) =>
    (await obtainKernel({ kind: "file", text: image, path: image }, directory)).modules.map(
      ({ name }) => name,
    );

  it("takes lib/modules/RELEASE and the INSTALL_MOD_PATH above it", async () => {
    const { folder, image } = imageFolder();
    const tree = join(folder, "lib/modules", release);
    writeModules(tree, release);
    const expected = ["virtio_pci", "9pnet", "9pnet_virtio", "9p", "virtio_console"];
    expect(await modulesOf(image, tree)).toEqual(expected);
    expect(await modulesOf(image, folder)).toEqual(expected);
    expect(Object.keys(neededModules)).toHaveLength(expected.length);
  });

  it("says what is there instead of the image's release", async () => {
    const { folder, image } = imageFolder();
    const other = "6.1.0-9-amd64";
    const tree = join(folder, "lib/modules", other);
    writeModules(tree, other);
    await expect(modulesOf(image, folder)).rejects.toThrow(
      `${folder}/lib/modules has ${other}, the image is of ${release}`,
    );
    await expect(modulesOf(image, tree)).rejects.toThrow(
      `${tree} has modules of ${other} (virtio_pci), the image is of ${release}`,
    );
    rmSync(tree, { recursive: true });
    await expect(modulesOf(image, folder)).rejects.toThrow("lib/modules has nothing, the image is of");
  });

  it("says that the folder is not there, or has no modules", async () => {
    const { folder, image } = imageFolder();
    const missing = join(folder, "missing");
    await expect(modulesOf(image, missing)).rejects.toThrow(/^modules of the kernel: ENOENT.*missing/);
    mkdirSync(missing);
    await expect(modulesOf(image, missing)).rejects.toThrow(
      `${missing} has no module virtio_pci, nor is it in the image`,
    );
  });
});

describe("what is no module", () => {
  it.each([
    ["kvm.ko", "is no regular file"],
    ["kvm.ko.gz", "does not decompress"],
    ["modules.builtin", "is no regular file"],
  ])("a folder %s is refused by name", (name, reason) => {
    const folder = caseFolder();
    mkdirSync(join(folder, name));
    const load = () => new ModuleTree(folder).loadOrder(["kvm"]);
    expect(load).toThrow(KernelError);
    expect(load).toThrow(name);
    expect(load).toThrow(reason);
  });
});
