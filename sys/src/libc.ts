/**
 * The C library through koffi: one loader, one error class. The only place of the repository that knows koffi.
 *
 * A call costs about 0.1 us above C and the arguments of `declare`d functions are checked by koffi at run time,
 * so the TypeScript signature given by the caller is the contract: keep it beside the C prototype.
 * Calls are synchronous on the calling thread, which is what thread-directed system calls
 * (KVM_RUN, pthread_sigmask, SIGEV_THREAD_ID timers) need.
 */
import koffi from "koffi";

/** An address in this process. 64 bits wide, hence a bigint. */
export type Address = bigint;

/** What a C `void *` argument accepts: memory of ours (koffi passes its address) or an address. */
export type Pointer = Address | NodeJS.ArrayBufferView | null;

const library = koffi.load(null);

/**
 * Binds a function of the C library.
 * @param prototype C prototype, e.g. `int ioctl(int fd, unsigned long request, uint64 argument)`. Use `int64` for `ssize_t`.
 */
export function declare<F extends (...args: never[]) => unknown>(prototype: string): F {
  return library.func(prototype) as unknown as F;
}

/** Of a call on another thread. `errno` means something only where the result says that it failed. */
export type LaterResult<Result> = { readonly result: Result; readonly errno: number };

/** As `declare`, but the call is made on a thread of libuv's pool: for what may wait for long. */
export function declareLater<Arguments extends readonly unknown[], Result>(
  prototype: string,
): (...args: Arguments) => Promise<LaterResult<Result>> {
  const call = library.func(prototype);
  return (...args) =>
    new Promise((resolve, reject) => {
      call.async(...args, (error: unknown, result: Result) => {
        // koffi has the call's errno in this very callback: in what is awaited afterwards it is another's. [measured]
        if (error === null || error === undefined) resolve({ result, errno: koffi.errno() });
        else reject(error);
      });
    });
}

/** `errno` of this thread's last `declare`d call. Only meaningful straight after a call that failed. */
export function lastErrno(): number {
  return koffi.errno();
}

/** The bytes at `address`, shared with the C side, not copied. The caller keeps the mapping alive. */
export function viewOf(address: Address, lengthBytes: number): Uint8Array {
  return new Uint8Array(koffi.view(address, lengthBytes));
}

/** The address of a buffer's first byte, for structures that hold pointers. The caller keeps the buffer alive. */
export function addressOf(buffer: NodeJS.ArrayBufferView): Address {
  return koffi.address(buffer);
}

const numberByName: Readonly<Record<string, number>> = koffi.os.errno;
const nameByNumber = new Map<number, string>();
for (const [name, number] of Object.entries(numberByName)) {
  // EWOULDBLOCK, EDEADLOCK and ENOTSUP repeat a number: the first, more common name stays.
  if (!nameByNumber.has(number)) nameByNumber.set(number, name);
}
nameByNumber.set(errnoNumber("EAGAIN"), "EAGAIN");
nameByNumber.set(errnoNumber("EOPNOTSUPP"), "EOPNOTSUPP");
nameByNumber.set(errnoNumber("EDEADLK"), "EDEADLK");

/** `14` -> `"EFAULT"`; an unknown number reads `"errno 4711"`. */
export function errnoName(errno: number): string {
  return nameByNumber.get(errno) ?? `errno ${errno}`;
}

/** `"EFAULT"` -> `14`. Throws for a name that this platform does not have. */
export function errnoNumber(name: string): number {
  const number = numberByName[name];
  if (number === undefined) throw new Error(`unknown errno name ${JSON.stringify(name)}`);
  return number;
}

/** A system call that failed. `code` is the errno's name, as Node's own errors have it. */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  readonly syscall: string;
  readonly errno: number;
  readonly code: string;

  constructor(syscall: string, errno: number, detail?: string) {
    const code = errnoName(errno);
    super(`${syscall}: ${code}${detail === undefined ? "" : ` (${detail})`}`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
  }
}

/** Returns `result` unless it is -1; then throws the thread's errno as a `SyscallError`. */
export function check<R extends number | bigint>(syscall: string, result: R, detail?: string): R {
  if (result === -1 || result === -1n) throw new SyscallError(syscall, lastErrno(), detail);
  return result;
}
