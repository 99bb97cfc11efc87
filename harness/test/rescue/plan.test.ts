import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/verdict.ts";
import { planOf, stepText } from "../../src/rescue/plan.ts";
import { qmpSocketsOf } from "../../src/rescue/qmp.ts";
import { fileWith, fuseWith, HVA, pageWith, servedBy, vcpuWith, vmWith } from "../support/vm-facts.ts";

const looping = [vcpuWith({ pages: [pageWith({ ready: 50, hva: HVA + 0x1000n })] })];

describe("what can be done", () => {
  it("for a VM that loops behind a file's end: grow it, or end the VM", () => {
    const vm = vmWith({ files: [fileWith({ sizeBytes: 0n })], vcpus: looping });
    const { steps } = planOf(diagnose(vm, []));
    expect(steps.map(stepText)).toEqual([
      "grow /srv/guest from 0 to 4194304 bytes",
      "end the VM: SIGTERM to process 100",
    ]);
  });

  it("for a healthy VM with a file that is too short: grow it, and nothing else", () => {
    const vm = vmWith({ files: [fileWith({ sizeBytes: 0n })] });
    expect(planOf(diagnose(vm, [])).steps.map(({ kind }) => kind)).toEqual(["grow"]);
  });

  it("for a healthy one: nothing", () => {
    expect(planOf(diagnose(vmWith({}), [])).steps).toEqual([]);
  });

  it("where the file server is stopped: let it go on, and do not ask it to grow the file", () => {
    const server = fuseWith({ processes: [{ pid: 7, name: "virtiofsd", state: "T" }], isExact: true });
    const vm = vmWith({ files: [servedBy(server, { sizeBytes: 0n })], vcpus: looping });
    const { steps, hints } = planOf(diagnose(vm, []));
    expect(steps.map(({ kind }) => kind)).toEqual(["continue", "stop"]);
    expect(hints.join()).toMatch(/its file server is stopped/);
  });

  it("of a stopped process that may be another mount's server: nothing", () => {
    const server = fuseWith({ processes: [{ pid: 7, name: "sshfs", state: "T" }], isExact: false });
    const vm = vmWith({ files: [servedBy(server)] });
    expect(planOf(diagnose(vm, [])).steps.map(({ kind }) => kind)).not.toContain("continue");
  });
});

describe("QMP's sockets in a command line", () => {
  it.each([
    [["-qmp", "unix:/run/q,server=on,wait=off"], ["/run/q"]],
    [["--qmp-pretty", "unix:/run/a,,b,server"], ["/run/a,b"]],
    [["-qmp", "tcp:localhost:4444"], []],
    [["-chardev", "socket,id=m,path=/run/m,server=on", "-mon", "chardev=m,mode=control"], ["/run/m"]],
    [["-chardev", "socket,id=m,path=/run/m", "-mon", "m,mode=control"], ["/run/m"]],
    [["-chardev", "socket,id=m,path=/run/m", "-mon", "chardev=m,mode=readline"], []],
    // As libvirt has it: the socket is its own.
    [["-chardev", "socket,id=charmonitor,fd=32,server=on", "-mon", "chardev=charmonitor,mode=control"], []],
    [["-qmp"], []],
  ])("%j", (words, sockets) => {
    expect(qmpSocketsOf(["qemu", ...words])).toEqual(sockets);
  });
});
