import { describe, expect, it } from "vitest";
import {
  type GuestOptions,
  guestArguments,
  guestCommandLine,
  RAM_BYTES,
  SHARED_ADDRESS,
  SHARED_BYTES,
} from "../../../../src/engines/linux/qemu/arguments.ts";

const options: GuestOptions = {
  accelerator: "kvm",
  imagePath: "/k",
  initrdPath: "/i",
  cpus: 2,
  asyncPageFaults: "offered",
  hltInGuest: false,
  socketPath: "/run/a,b/s",
};
/** What stands behind an option, each time. */
const behind = (args: readonly string[], option: string): readonly string[] =>
  args.flatMap((word, at) => (args[at - 1] === option ? [word] : []));

describe("guestArguments", () => {
  it.each([
    [{}, ["kvm"], ["host"]],
    [{ asyncPageFaults: "hidden" }, ["kvm"], ["host,kvm-asyncpf=off,kvm-asyncpf-int=off"]],
    [{ accelerator: "tcg", asyncPageFaults: "hidden" }, ["tcg,thread=multi"], ["max"]],
  ] as const)("%j", (changes, accel, cpu) => {
    const args = guestArguments({ ...options, ...changes });
    expect(behind(args, "-accel")).toEqual(accel);
    expect(behind(args, "-cpu")).toEqual(cpu);
    expect(behind(args, "-smp")).toEqual(["2"]);
  });

  it("connects the device of virtio-fs to the server, a comma in the path doubled", () => {
    const args = guestArguments(options);
    expect(behind(args, "-chardev")).toContain("socket,id=fs,path=/run/a,,b/s");
    expect(behind(args, "-device")).toContain(
      "vhost-user-test-device-pci,chardev=fs,virtio-id=26,num_vqs=2,config_size=40,vq_size=128",
    );
    const none = guestArguments({ ...options, socketPath: null });
    expect(behind(none, "-device")).toEqual(["isa-debugcon,chardev=doorbell,iobase=816"]);
  });

  it("gives HLT to the guest where the proposal says so", () => {
    expect(behind(guestArguments(options), "-overcommit")).toEqual([]);
    expect(behind(guestArguments({ ...options, hltInGuest: true }), "-overcommit")).toEqual(["cpu-pm=on"]);
  });

  it("keeps the channel out of the kernel's memory, and names it and the doorbell", () => {
    expect(SHARED_ADDRESS + SHARED_BYTES).toBeLessThan(RAM_BYTES);
    expect(SHARED_BYTES % 4096).toBe(0);
    const line = guestCommandLine();
    expect(line).toContain(`memmap=0x${SHARED_BYTES.toString(16)}$0x8000000 daxfault.channel=0x8000000`);
    expect(line).toMatch(/daxfault\.doorbell=0x330$/);
  });
});
