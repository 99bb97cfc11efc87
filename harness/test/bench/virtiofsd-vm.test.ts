/** A guest of `daxfault bench virtiofsd`, with a shell in QEMU's place: no wait without a bound, each end with its words. */
import { afterEach, describe, expect, it } from "vitest";
import { BenchGuest } from "../../src/bench/virtiofsd-vm.ts";
import { caseFolder } from "../support/folders.ts";

const BOUND_MS = 20_000;
const running: BenchGuest[] = [];

afterEach(async () => {
  for (const guest of running.splice(0)) await guest.close();
});

function guestThat(script: string, signal: AbortSignal = new AbortController().signal): BenchGuest {
  const guest = new BenchGuest({
    // QEMU's arguments are the script's.
    qemu: ["/bin/sh", "-c", script],
    accelerator: "tcg",
    ramMiB: 1,
    imagePath: "image",
    initrdPath: "initrd",
    servers: [],
    directory: caseFolder(),
    signal,
  });
  running.push(guest);
  return guest;
}

const isThere = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe("a guest of bench virtiofsd", () => {
  it("is heard by its words alone, one after the other, and goes on when it is answered", async () => {
    const guest = guestThat('echo booting; echo "@ mounted"; read -r line; echo "@ held"; exec sleep 100');
    expect(await guest.said("the boot", BOUND_MS)).toBe("@ mounted");
    guest.answer();
    expect(await guest.said("the file", BOUND_MS)).toBe("@ held");
  });

  it("that is silent is waited for no longer than the bound, and what it last printed is told", async () => {
    const guest = guestThat("echo a; echo 'rcu: INFO: stall'; exec sleep 100");
    await expect(guest.said("turn 3 of 9", 1500)).rejects.toThrow(
      "turn 3 of 9: the guest was silent for 1500 ms: a | rcu: INFO: stall",
    );
    const { pid } = guest;
    expect(isThere(pid)).toBe(true);
    await guest.close();
    expect(isThere(pid)).toBe(false);
  });

  it("that ends early is told at once, with its last words", async () => {
    const guest = guestThat('echo "! mount: No such device"; exit 1');
    await expect(guest.said("the boot", BOUND_MS)).rejects.toThrow(
      "the boot: the guest ended early: ! mount: No such device",
    );
  });

  it("ends with the run", async () => {
    const controller = new AbortController();
    const guest = guestThat('echo "@ mounted"; exec sleep 100', controller.signal);
    await guest.said("the boot", BOUND_MS);
    const waiting = guest.said("turn 1 of 9", BOUND_MS);
    controller.abort(new Error("interrupted"));
    await expect(waiting).rejects.toThrow("interrupted");
  });
});
