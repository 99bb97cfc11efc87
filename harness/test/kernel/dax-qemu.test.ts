import { describe, expect, it } from "vitest";
import { packagesOf } from "../../src/kernel/apt-programs.ts";
import { type Ask, lackOf } from "../../src/kernel/dax-qemu.ts";

const binary = (...words: string[]): Buffer => Buffer.from(`\x7fELF\0${words.join("\0")}\0`, "latin1");
const newest = binary("VHOST_USER_PROTOCOL_F_SHMEM: Backend shared memory mapping supported");

/** As a QEMU answers that has these devices, with these options. */
function qemu(devices: Readonly<Record<string, string>>): Ask {
  return (args) => {
    if (args[0] === "--version") return "QEMU emulator version 11.1.2 (Debian 1:11.1.2+ds-3)\n";
    const [device = ""] = (args[1] ?? "").split(",");
    return devices[device] ?? null;
  };
}

const options = "vhost-user-test-device-pci options:\n  num_vqs=<uint32>        -  (default: 1)\n";

describe("lackOf", () => {
  const table: readonly [what: string, ask: Ask, program: Buffer | null, lack: string | null][] = [
    ["a QEMU with the device and its regions", qemu({ "vhost-user-test-device-pci": options }), newest, null],
    ["a script that starts one", qemu({ "vhost-user-test-device-pci": options }), null, null],
    [
      "a QEMU before the device had its name",
      qemu({ "vhost-user-device-pci": options }),
      newest,
      "it has no device vhost-user-test-device-pci",
    ],
    [
      "a device without the option that it is used with",
      qemu({ "vhost-user-test-device-pci": "There are no options for vhost-user-test-device-pci.\n" }),
      newest,
      "it has no device vhost-user-test-device-pci",
    ],
    [
      "the device without regions",
      qemu({ "vhost-user-test-device-pci": options }),
      binary("VHOST_USER_PROTOCOL_F_CONFIG"),
      "its vhost-user-test-device-pci has no VIRTIO Shared Memory Regions (VHOST_USER_PROTOCOL_F_SHMEM)",
    ],
    ["another program", () => null, newest, "it does not run, or is no qemu-system-x86_64"],
  ];

  it.each(table)("%s", (_what, ask, program, lack) => {
    expect(lackOf(ask, program)).toBe(lack);
  });
});

describe("packagesOf", () => {
  const uri = (name: string, version: string, size: number): string =>
    `'http://deb.debian.org/debian/pool/main/x/${name}_${version}_amd64.deb' ${name}_${version}_amd64.deb ${size} SHA256:00`;
  const text = [
    "NOTE: This is only a simulation!",
    uri("libc6", "2.41-12+deb13u4", 1000),
    uri("libcap2", "1%3a2.75-10+deb13u1+b3", 200),
    uri("qemu-system-x86", "1%3a11.1.2+ds-3~bpo13+4", 30),
    "",
  ].join("\n");

  it("has the program's version, and all packages with theirs, an epoch decoded", () => {
    expect(packagesOf(text, "qemu-system-x86")).toEqual({
      version: "1:11.1.2+ds-3~bpo13+4",
      names: [
        "libc6=2.41-12+deb13u4",
        "libcap2=1:2.75-10+deb13u1+b3",
        "qemu-system-x86=1:11.1.2+ds-3~bpo13+4",
      ],
      neededBytes: 1230 * 7,
    });
  });

  it("is nothing without the program itself", () => {
    expect(packagesOf(text, "qemu-system-arm")).toBeNull();
    expect(packagesOf("", "qemu-system-x86")).toBeNull();
  });
});
