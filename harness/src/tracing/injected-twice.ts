/**
 * Detects a defect of QEMU's TCG: an external interrupt that KVM injects by VMRUN (EVENTINJ) is delivered a second time,
 * as an exception, whatever the guest's IF says. `helper_vmrun()` (target/i386/tcg/system/svm_helper.c) leaves the vector
 * in `exception_index`, and when the CPU leaves its loop for another emulated CPU's turn, `cpu_handle_exception()`
 * (accel/tcg/cpu-exec.c) delivers what it finds there. examples/qemu/injected-twice shows it without KVM.
 *
 * The next exit has it in EXITINTINFO, which kvm_exit prints as `intr_info`: 0x3f3, type exception, where the delivery of
 * the interrupt alone leaves 0xf3. Exceptions have vectors below 32: no processor reports this one, and no guest can cause
 * it. An exception that the guest takes between the second delivery and the exit hides it.
 */
import { openTrace, type TraceSelection, type TraceText } from "./tracefs.ts";

/** SVM_EXITINTINFO_TYPE_EXEPT, and Intel's type of hardware exceptions (INTR_TYPE_HARD_EXCEPTION): bits 8 to 10. */
const TYPE_EXCEPTION = 3;
/** Vectors from here on are not exceptions'. */
const FIRST_INTERRUPT = 32;

const selection: TraceSelection = {
  name: "exits",
  events: [
    {
      event: "kvm/kvm_exit",
      // Bits 8 and 9 of the type, and a vector of 32 or more. The filter has no sum of "&" and "==".
      filter: "intr_info & 0x100 && intr_info & 0x200 && intr_info & 0xe0",
    },
  ],
  except: [],
  // A page: the first one is enough.
  bufferKib: 4,
  processes: "all",
};

/** The evidence of one second delivery. */
export type InjectedTwice = { readonly vector: number; readonly line: string };

/** The first line of kvm_exit that shows it; null: none does. Pure. */
export function injectedTwice(text: string): InjectedTwice | null {
  for (const line of text.split("\n")) {
    const digits = / kvm_exit: .* intr_info 0x([0-9a-f]+)/.exec(line)?.[1];
    if (digits === undefined) continue;
    const info = Number.parseInt(digits, 16);
    const vector = info & 0xff;
    if (((info >> 8) & 7) === TYPE_EXCEPTION && vector >= FIRST_INTERRUPT) {
      return { vector, line: line.trim() };
    }
  }
  return null;
}

/** @param cpus emulated CPUs of the VM */
export function injectedTwiceText({ vector, line }: InjectedTwice, cpus: number): string {
  return (
    `the emulator delivered an injected event twice (QEMU TCG with ${cpus} CPU${cpus === 1 ? "" : "s"}): ` +
    `an exit reports an exception of vector 0x${vector.toString(16)}: ${line}`
  );
}

export interface ExitWatch {
  /** What was seen since the last call; null: nothing, or this kernel has no such tracepoint. */
  take(): InjectedTwice | null;
}

/** Watches all exits of this kernel's KVM until the process ends. Once per boot: to open an instance takes its time. */
export function watchExits(directory: string): ExitWatch {
  const session = openTrace(directory, selection);
  return {
    take() {
      const trace: TraceText = session.drain();
      return trace.kind === "none" ? null : injectedTwice(trace.text);
    },
  };
}
