/** /dev/kvm: open it, ask what it can do. Nothing here creates a VM. */
import { closeSync, constants, openSync } from "node:fs";
import { check, declare } from "../../../sys/src/index.ts";
import { type Capability, capability, type RequestName, requestNumber, requests } from "./abi.ts";

const cIoctlWord = declare<(fd: number, request: number, argument: bigint) => number>(
  "int ioctl(int fd, unsigned long request, uint64 argument)",
);
const cIoctlPointer = declare<(fd: number, request: number, argument: NodeJS.ArrayBufferView) => number>(
  "int ioctl(int fd, unsigned long request, void *argument)",
);

/** The hot call: plain numbers all through. */
const cIoctlRun = declare<(fd: number, request: number, argument: number) => number>(
  "int ioctl(int fd, unsigned long request, unsigned long argument)",
);

/** As plain numbers, which cost less than bigints on the way to C. */
const requestNumbers = new Map<RequestName, number>(
  (Object.keys(requests) as RequestName[]).map((name) => [name, Number(requestNumber(name))]),
);

const RUN = numberOf("KVM_RUN");

function numberOf(name: RequestName): number {
  return requestNumbers.get(name) ?? 0;
}

/** An ioctl whose argument is a number. Throws a SyscallError named after the request. */
export function ioctlWord(fd: number, name: RequestName, argument: bigint = 0n): number {
  return check(name, cIoctlWord(fd, numberOf(name), argument));
}

/** An ioctl whose argument points to a structure. Throws a SyscallError named after the request. */
export function ioctlStruct(fd: number, name: RequestName, argument: NodeJS.ArrayBufferView): number {
  return check(name, cIoctlPointer(fd, numberOf(name), argument));
}

/** KVM_RUN without the throw: 0, or -1 with `lastErrno()`. Failing is an everyday result there. */
export function ioctlRun(vcpuFd: number): number {
  return cIoctlRun(vcpuFd, RUN, 0);
}

/** The only version there has ever been since 2.6.22; api.rst: "applications should refuse to run" otherwise. */
export const KVM_API_VERSION = 12;

export class Kvm {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Throws Node's own error (ENOENT, EACCES) or one that names the API version. */
  static open(path = "/dev/kvm"): Kvm {
    const kvm = new Kvm(openSync(path, constants.O_RDWR));
    const version = ioctlWord(kvm.fd, "KVM_GET_API_VERSION");
    if (version !== KVM_API_VERSION) {
      kvm.close();
      throw new Error(`${path}: KVM API version ${version}, expected ${KVM_API_VERSION}`);
    }
    return kvm;
  }

  /** KVM_CHECK_EXTENSION: 0 is "no"; some capabilities answer with a number or a mask. */
  check(name: Capability): number {
    return ioctlWord(this.fd, "KVM_CHECK_EXTENSION", BigInt(capability[name]));
  }

  /** All capabilities of the table with their answers. */
  capabilities(): Record<Capability, number> {
    const names = Object.keys(capability) as Capability[];
    return Object.fromEntries(names.map((name) => [name, this.check(name)])) as Record<Capability, number>;
  }

  close(): void {
    closeSync(this.fd);
  }
}
