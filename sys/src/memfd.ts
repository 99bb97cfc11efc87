/** Anonymous files and their seals: memfd_create(2), fcntl(2) F_ADD_SEALS. */
import { check, declare } from "./libc.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** No more seals. */
export const F_SEAL_SEAL = 1;
/** The file cannot get smaller: ftruncate gives EPERM. */
export const F_SEAL_SHRINK = 2;
/** Nor larger. */
export const F_SEAL_GROW = 4;

const cMemfdCreate = declare<(name: string, flags: number) => number>(
  "int memfd_create(const char *name, uint32 flags)",
);
const cFcntl = declare<(fd: number, operation: number, argument: number) => number>(
  "int fcntl(int fd, int operation, int argument)",
);

/** A file without a name, open for reading and writing. Throws a SyscallError. */
export function memfdCreate(name: string): number {
  return check("memfd_create", cMemfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

/** Throws a SyscallError: EINVAL where the file knows no seals, EPERM where F_SEAL_SEAL is set. */
export function addSeals(fd: number, seals: number): void {
  check("fcntl(F_ADD_SEALS)", cFcntl(fd, F_ADD_SEALS, seals));
}

export function sealsOf(fd: number): number {
  return check("fcntl(F_GET_SEALS)", cFcntl(fd, F_GET_SEALS, 0));
}
