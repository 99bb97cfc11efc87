import { describe, expect, it } from "vitest";
import { compareVersions, isVersion, kernelPackages, searchedSuites } from "../../src/kernel/apt.ts";

function stanza(name: string, version: string, depends = ""): string {
  return [
    `Package: ${name}`,
    `Version: ${version}`,
    "Architecture: amd64",
    `Depends: kmod, ${depends} linux-base (>= 4.3~)`,
    "Description: Linux for 64-bit PCs",
    " continued: not a field of its own",
    "Installed-Size: 10",
    "Size: 100",
    `SHA256: ${name.length.toString(16).padStart(64, "0")}`,
  ].join("\n");
}

const release = "7.2.11+deb13-amd64";
const split = ["binary", "modules", "base"].map((part) => `linux-${part}-${release}`);
const text = [
  stanza("linux-image-6.1.0-56-amd64", "6.1.192-2"),
  stanza("linux-image-6.1.0-9-amd64", "6.1.27-1"),
  stanza("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"),
  stanza("linux-image-6.1.0-56-rt-amd64", "6.1.192-2"),
  stanza("linux-image-6.1.0-56-amd64-dbg", "6.1.192-2"),
  stanza("linux-image-6.1.0-56-amd64-unsigned", "6.1.192-2"),
  stanza("linux-image-6.12-amd64", "6.12.1-1", "linux-image-6.12.1-amd64 (= 6.12.1-1),"),
  stanza("linux-image-7.1.13+deb13-amd64", "7.1.13-1", "linux-modules-7.1.13+deb13-amd64 (= 7.1.13-1),"),
  stanza("linux-image-7.3-amd64", "7.3~rc7-1~exp1", "linux-modules-7.3-amd64 (= 7.3~rc7-1~exp1),"),
  stanza("linux-modules-7.3-amd64", "7.3~rc7-1~exp1"),
  stanza("linux-image-7.4-rc1-amd64", "7.4~rc1-1~exp1"),
  stanza(`linux-image-${release}`, "7.2.11-1", split.map((name) => `${name} (= 7.2.11-1),`).join(" ")),
  ...split.map((name) => stanza(name, "7.2.11-1")),
].join("\n\n");

describe("kernelPackages", () => {
  const kernels = kernelPackages("own", text);

  it("finds the kernels, the newest first, and nothing else", () => {
    expect(kernels.map((kernel) => kernel.release)).toEqual([
      "7.4-rc1-amd64",
      "7.3-amd64",
      release,
      "6.1.0-56-amd64",
      "6.1.0-9-amd64",
    ]);
  });

  it("knows what has to be downloaded besides where a kernel is in several packages", () => {
    expect(kernels[2]?.parts.map(({ name }) => name)).toEqual([`linux-image-${release}`, ...split]);
    expect(kernels[3]?.parts).toEqual([
      {
        name: "linux-image-6.1.0-56-amd64",
        version: "6.1.192-2",
        sizeBytes: 100,
        installedBytes: 10_240,
        sha256: "1a".padStart(64, "0"),
      },
    ]);
  });

  it.each([
    ["6.1", true],
    ["6.1.0-56", true],
    ["6.1.192", true],
    ["6", true],
    ["6.1.19", false],
    ["6.1.0-5", false],
    ["6.12", false],
  ])("%s is the version of 6.1.192-2: %s", (wanted, expected) => {
    const kernel = kernels[3];
    expect(kernel !== undefined && isVersion(kernel, wanted)).toBe(expected);
  });
});

describe("compareVersions", () => {
  // deb-version(7): each is older than the next.
  it.each([
    ["6.1.9-1", "6.1.27-1"],
    ["6.1.192-2", "6.12.1-1"],
    ["7.3~rc6-1~exp1", "7.3~rc7-1~exp1"],
    ["7.3~rc7-1~exp1", "7.3-1"],
    ["7.3-1", "7.3.1-1"],
    ["7.3.4-1~bpo13+1", "7.3.4-1"],
    ["7.3.4-1", "7.3.4-1+b1"],
  ])("%s is older than %s", (older, newer) => {
    expect(compareVersions(older, newer)).toBeLessThan(0);
    expect(compareVersions(newer, older)).toBeGreaterThan(0);
    expect(compareVersions(older, older)).toBe(0);
  });
});

describe("the suites", () => {
  it("have release candidates, too, last: a version is looked for in the others first", () => {
    expect(searchedSuites.at(-1)).toBe("experimental");
  });
});
