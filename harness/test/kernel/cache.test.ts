/** From a package to a kernel at hand, and everything that can go wrong on the way, with an apt that is a shell script. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { release as hostRelease } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { mountTmpfs } from "../../../sys/src/index.ts";
import { obtainKernel } from "../../src/kernel/cache.ts";
import { guestNeeds } from "../../src/kernel/needs.ts";
import { cacheDirectory, cachedKernels, type Kernel } from "../../src/kernel/store.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { caseFolder } from "../support/folders.ts";
import { bootImage, guestModules, neededModules, writeModules } from "../support/kernels.ts";

const release = "6.99.0-1-amd64";
const name = `linux-image-${release}`;
const version = "6.99.5-1";
const hasDpkg = ["/usr/bin/dpkg-deb", "/bin/dpkg-deb"].some(existsSync);

/** The mirror, as the script sees it: a stanza, a package, and what goes wrong. */
let mirror = "";

const aptGet = `#!/bin/sh
echo "$*" >> "$MIRROR/calls"
case "$*" in
*indextargets*) printf 'http://mirror.invalid/\\tstable\\tDebian\\tDebian\\tmain\\n' ;;
*" update") [ ! -e "$MIRROR/unreachable" ] || {
    echo "E: Failed to fetch http://mirror.invalid/InRelease  Could not connect to mirror.invalid:80" >&2
    exit 100
  } ;;
*" download "*)
  [ ! -e "$MIRROR/hangs" ] || exec sleep 30
  cp "$MIRROR"/*.deb . || {
    echo "E: Failed to fetch http://mirror.invalid/pool/linux.deb  404  Not Found" >&2
    exit 100
  } ;;
esac
`;

function writeProgram(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

type PackageChanges = {
  readonly modules?: Readonly<Record<string, readonly string[]>>;
  readonly installedKiB?: number;
  /** Bytes of a file that is in the package as well. */
  readonly ballastBytes?: number;
  /** Left out: the package has none. */
  readonly config?: string;
};

/** Puts the kernel's package on the mirror. */
function publish({
  modules = neededModules,
  installedKiB = 100,
  ballastBytes = 0,
  config,
}: PackageChanges = {}): void {
  const tree = join(mirror, "tree");
  mkdirSync(join(tree, "DEBIAN"), { recursive: true });
  mkdirSync(join(tree, "boot"));
  writeFileSync(join(tree, "boot", `vmlinuz-${release}`), bootImage({ release }));
  writeFileSync(join(tree, "boot", "System.map"), Buffer.alloc(ballastBytes));
  if (config !== undefined) writeFileSync(join(tree, "boot", `config-${release}`), config);
  writeModules(join(tree, "lib/modules", release), release, modules);
  const control = [`Package: ${name}`, `Version: ${version}`, "Architecture: amd64"];
  const rest = ["Maintainer: Nobody <nobody@localhost>", "Description: a kernel for tests", ""];
  writeFileSync(join(tree, "DEBIAN/control"), [...control, ...rest].join("\n"));
  execFileSync("dpkg-deb", ["--root-owner-group", "-Zgzip", "-b", tree, join(mirror, "linux.deb")]);
  rmSync(tree, { recursive: true });
  const stanza = [
    ...control,
    `Installed-Size: ${installedKiB}`,
    "Size: 1000",
    `SHA256: ${"a".repeat(64)}`,
    "",
  ];
  writeFileSync(join(mirror, "stanzas"), stanza.join("\n"));
}

const obtain = (text = "6.99", signal?: AbortSignal): Promise<Kernel> =>
  obtainKernel({ kind: "debian-version", text: `debian:${text}`, version: text }, null, signal);

const obtainGuest = (): Promise<Kernel> =>
  obtainKernel(
    { kind: "debian-version", text: "debian:6.99", version: "6.99" },
    null,
    new AbortController().signal,
    "guest",
  );

const downloads = (): number =>
  readFileSync(join(mirror, "calls"), "utf8")
    .split("\n")
    .filter((line) => line.includes(" download ")).length;

/** What a kernel leaves in the cache that is none. */
const leftInCache = (): readonly string[] => {
  const folder = join(cacheDirectory(), "kernels");
  return existsSync(folder) ? readdirSync(folder) : [];
};

describe.skipIf(!hasDpkg)("a kernel of Debian's archive (needs dpkg-deb)", () => {
  beforeEach(() => {
    const folder = caseFolder();
    mirror = join(folder, "mirror");
    mkdirSync(join(folder, "bin"));
    mkdirSync(mirror);
    writeProgram(join(folder, "bin/apt-get"), aptGet);
    writeProgram(join(folder, "bin/apt-cache"), '#!/bin/sh\ncat "$MIRROR/stanzas"\n');
    vi.stubEnv("PATH", `${join(folder, "bin")}:${process.env.PATH}`);
    vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
    vi.stubEnv("MIRROR", mirror);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("is loaded once, and made anew where what is in the cache is not what was put there", async () => {
    publish();
    const kernel = await obtain();
    expect(kernel).toMatchObject({ name: "debian:6.99", release, origin: `${name} ${version}` });
    expect(kernel.modules.map((module) => module.name)).toContain("9pnet_virtio");
    expect(readFileSync(kernel.imagePath)).toEqual(bootImage({ release }));
    expect(await obtain()).toEqual(kernel);
    expect(downloads()).toBe(1);
    expect(cachedKernels()).toHaveLength(1);
    writeFileSync(kernel.imagePath, "damaged");
    expect(await obtain()).toEqual(kernel);
    expect(downloads()).toBe(2);
    expect(leftInCache()).toEqual([`${release}_${version}`]);
  });

  it("has other modules as a guest, of the same download", async () => {
    publish({ modules: { ...neededModules, ...guestModules } });
    expect((await obtain()).modules.map((module) => module.name)).not.toContain("virtio_mmio");
    const guest = await obtainGuest();
    const names = guest.modules.map((module) => module.name);
    expect(names).toEqual(["virtio_mmio", "libnvdimm", "virtio_pmem", "nd_e820", "nd_pmem", "ext4"]);
    expect(downloads()).toBe(1);
    const module = join(dirname(guest.imagePath), "modules/libnvdimm.ko");
    writeFileSync(module, "damaged");
    expect(await obtainGuest()).toEqual(guest);
    expect(downloads()).toBe(2);
  });

  it("has KVM's modules apart, for a guest with guests of its own", async () => {
    const kvm = { "arch/x86/kvm/kvm.ko": [], "arch/x86/kvm/kvm-amd.ko": ["depends=kvm"] };
    publish({ modules: { ...neededModules, ...guestModules, ...kvm } });
    const { modules, nestedModules } = await obtainGuest();
    expect(modules.map((module) => module.name)).not.toContain("kvm");
    expect(nestedModules.map((module) => module.name)).toEqual(["kvm", "kvm_amd"]);
    expect((await obtain()).nestedModules).toEqual([]);
  });

  it.each(["guest.json", "nested.json"])(
    "is loaded again as a guest where %s is not there yet",
    async (file) => {
      publish({ modules: { ...neededModules, ...guestModules } });
      const kernel = await obtain();
      rmSync(join(dirname(kernel.imagePath), file));
      expect(await obtain()).toEqual(kernel);
      expect(downloads()).toBe(1);
      expect((await obtainGuest()).modules).toHaveLength(6);
      expect(downloads()).toBe(2);
    },
  );

  it("cannot be a guest where its configuration lacks what a guest needs", async () => {
    const needed = guestNeeds.map(({ option, asModule }) => `CONFIG_${option}=${asModule ? "m" : "y"}`);
    const modules = { ...neededModules, ...guestModules };
    publish({ modules, config: needed.filter((line) => !/DEVMEM|FUSE_DAX/.test(line)).join("\n") });
    const lacks =
      "it cannot be a guest: CONFIG_DEVMEM is off (/dev/mem, by which its program and the host share memory); " +
      "CONFIG_FUSE_DAX is off (the DAX window of virtio-fs)";
    await expect(obtainGuest()).rejects.toThrow(lacks);
    await expect(obtainGuest()).rejects.toThrow(lacks);
    expect(downloads()).toBe(1);
    expect((await obtain()).release).toBe(release);
    rmSync(dirname((await obtain()).imagePath), { recursive: true });
    publish({ modules, config: needed.join("\n") });
    expect((await obtainGuest()).release).toBe(release);
  });

  it("cannot be a guest without a module that a guest needs", async () => {
    publish();
    expect((await obtain()).release).toBe(release);
    await expect(obtainGuest()).rejects.toThrow(
      "it cannot be a guest: virtio_mmio, virtio_pmem, nd_e820, nd_pmem, ext4: neither in the image nor among its modules",
    );
  });

  it("cannot be loaded", async () => {
    publish();
    rmSync(join(mirror, "linux.deb"));
    await expect(obtain()).rejects.toThrow(/^apt-get linux-image-.*: E: Failed to fetch .*404 {2}Not Found$/);
    expect(leftInCache()).toEqual([]);
  });

  it("is not asked of suite after suite where the mirror is out of reach", async () => {
    publish();
    writeFileSync(join(mirror, "unreachable"), "");
    await expect(obtain()).rejects.toThrow(
      /^Debian's archive cannot be read: apt-get update: E: Failed to fetch .*Could not connect/,
    );
    expect(readFileSync(join(mirror, "calls"), "utf8").match(/ update$/gm)).toHaveLength(1);
  });

  it("is not there in that version", async () => {
    publish();
    await expect(obtain("6.98")).rejects.toThrow("no kernel 6.98 in Debian's archive: looked in own, ");
  });

  it("is truncated", async () => {
    publish();
    truncateSync(join(mirror, "linux.deb"), statSync(join(mirror, "linux.deb")).size / 2);
    await expect(obtain()).rejects.toThrow(/^dpkg-deb -x .*linux\.deb: /);
    expect(leftInCache()).toEqual([]);
  });

  it("lacks a module that nothing works without", async () => {
    publish({ modules: { "fs/9p/9p.ko": [] } });
    await expect(obtain()).rejects.toThrow("has no module virtio_pci, nor is it in the image");
    expect(leftInCache()).toEqual([]);
  });

  it("takes more room than there is, by its own word", async () => {
    publish({ installedKiB: 2 ** 40 });
    await expect(obtain()).rejects.toThrow(
      /^no room for linux-image-6\.99\.0-1-amd64: it takes \d+ MiB to unpack, .*cache.* has \d+ MiB \(XDG_CACHE_HOME/,
    );
    expect(downloads()).toBe(0);
  });

  it("is given up on Ctrl-C, and leaves nothing", async () => {
    publish();
    writeFileSync(join(mirror, "hangs"), "");
    const abort = new AbortController();
    const obtained = obtain("6.99", abort.signal);
    await vi.waitFor(() => expect(downloads()).toBe(1), 5000);
    abort.abort();
    await expect(obtained).rejects.toThrow("apt-get was interrupted");
    expect(leftInCache()).toEqual([]);
  });

  it("does not keep what a run that was killed had begun to unpack", async () => {
    publish();
    const [old, recent] = [".unpack-old", ".unpack-new"].map((one) => join(cacheDirectory(), "kernels", one));
    for (const folder of [old, recent]) mkdirSync(join(String(folder), "tree"), { recursive: true });
    const longAgo = new Date(Date.now() - 2 * 24 * 60 * 60 * 1000);
    utimesSync(String(old), longAgo, longAgo);
    await obtain();
    expect(leftInCache()).toEqual([".unpack-new", `${release}_${version}`]);
  });

  it.skipIf(supportOf(thisMachine(), ["root"]).kind === "no")(
    "does not fit after all (needs root, for a small file system)",
    async () => {
      const cache = join(caseFolder(), "cache");
      mkdirSync(cache);
      mountTmpfs(cache, 2n << 20n);
      vi.stubEnv("XDG_CACHE_HOME", cache);
      publish({ ballastBytes: 4 << 20 });
      await expect(obtain()).rejects.toThrow(
        /No space left on device \(XDG_CACHE_HOME names another place\)$/,
      );
      expect(leftInCache()).toEqual([]);
    },
  );
});

describe("a kernel tree that was built in place", () => {
  it("has its image, its modules where make left them, and what is changed in it", async () => {
    const tree = join(caseFolder(), "linux");
    const files = Object.keys(neededModules);
    mkdirSync(join(tree, "arch/x86/boot"), { recursive: true });
    writeFileSync(join(tree, "arch/x86/boot/bzImage"), bootImage({ release }));
    writeModules(tree, release);
    writeFileSync(join(tree, "Makefile"), "a\n");
    writeFileSync(join(tree, ".config"), "CONFIG_9P_FS=m\n");
    const objects = files.map((file) => `kernel/${file}`.replace(/\.ko$/, ".o"));
    writeFileSync(join(tree, "modules.order"), `${objects.join("\n")}\n`);
    // modules.order has paths from the top; those of `writeModules` lie in kernel/.
    const spec = { kind: "file", text: tree, path: tree } as const;
    await expect(obtainKernel(spec, null)).rejects.toThrow(/ENOENT/);
    writeFileSync(join(tree, "modules.order"), `${objects.map((path) => `kernel/${path}`).join("\n")}\n`);
    const kernel = await obtainKernel(spec, null);
    expect(kernel).toMatchObject({ release, origin: tree, patches: [] });
    expect(kernel.modules.map(({ name }) => name)).toContain("9pnet_virtio");
    const git = (...args: readonly string[]): void =>
      void execFileSync("git", ["-C", tree, "-c", "user.name=a", "-c", "user.email=a@b", ...args]);
    git("init", "-q");
    git("add", "Makefile");
    git("commit", "-qm", "a");
    expect((await obtainKernel(spec, null)).origin).toMatch(/linux \([0-9a-f]{7,}\)$/);
    writeFileSync(join(tree, "Makefile"), "b\n");
    expect((await obtainKernel(spec, null)).patches).toEqual([
      { name: "git diff HEAD: Makefile +1 -1", sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    ]);
  });
});

describe("the running kernel", () => {
  const places = [`/boot/vmlinuz-${hostRelease()}`, `/lib/modules/${hostRelease()}/vmlinuz`];

  it.skipIf(places.some((path) => existsSync(path)))(
    "has no image on this machine, and it is said where it would be (only where that is so)",
    async () => {
      await expect(obtainKernel({ kind: "host", text: "host" }, null)).rejects.toThrow(
        `the running kernel's image is not on this machine: neither ${places[0]} nor ${places[1]} is there ` +
          "(--kernel FILE --modules DIR, if it is somewhere else)",
      );
    },
  );
});
