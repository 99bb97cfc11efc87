/**
 * Stream sockets of unix(7) that carry descriptors (SCM_RIGHTS), which Node's own do not. All calls wait on the calling thread.
 * Layouts of 64-bit Linux.
 */
import { addressOf, check, declare, errnoNumber, lastErrno } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_CTRUNC = 8;
const SHUT_RDWR = 2;
/** struct cmsghdr: size_t len, int level, int type. */
const CMSG_HEADER_BYTES = 16;
/** struct sockaddr_un, with its NUL. */
export const MAX_SOCKET_PATH = 107;
/** SCM_MAX_FD (include/net/scm.h): more than a message can carry. */
const MAX_DESCRIPTORS = 253;
const EINTR = errnoNumber("EINTR");

const cSocket = declare<(domain: number, type: number, protocol: number) => number>(
  "int socket(int domain, int type, int protocol)",
);
const cBind = declare<(fd: number, address: Uint8Array, length: number) => number>(
  "int bind(int fd, const void *address, uint32 length)",
);
const cListen = declare<(fd: number, backlog: number) => number>("int listen(int fd, int backlog)");
const cAccept4 = declare<(fd: number, address: null, length: null, flags: number) => number>(
  "int accept4(int fd, void *address, void *length, int flags)",
);
const cConnect = declare<(fd: number, address: Uint8Array, length: number) => number>(
  "int connect(int fd, const void *address, uint32 length)",
);
const cShutdown = declare<(fd: number, how: number) => number>("int shutdown(int fd, int how)");
const cSendmsg = declare<(fd: number, message: Uint8Array, flags: number) => number>(
  "int64 sendmsg(int fd, const void *message, int flags)",
);
const cRecvmsg = declare<(fd: number, message: Uint8Array, flags: number) => number>(
  "int64 recvmsg(int fd, void *message, int flags)",
);
const cGetsockopt = declare<
  (fd: number, level: number, option: number, value: Uint8Array, length: Uint32Array) => number
>("int getsockopt(int fd, int level, int option, void *value, void *length)");

/** struct sockaddr_un. Throws a RangeError for a path that does not fit. */
function socketAddress(path: string): Uint8Array {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > MAX_SOCKET_PATH || name.includes(0)) {
    throw new RangeError(`socket path ${path}: expected 1 to ${MAX_SOCKET_PATH} bytes`);
  }
  const address = new Uint8Array(2 + MAX_SOCKET_PATH + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

/** A socket that listens at `path`, which must not exist. Throws a SyscallError. */
export function listenUnix(path: string, backlog: number): number {
  const address = socketAddress(path);
  const fd = check("socket", cSocket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check("bind", cBind(fd, address, address.length), path);
  check("listen", cListen(fd, backlog), path);
  return fd;
}

/** A connection to the socket at `path`. Throws a SyscallError. */
export function connectUnix(path: string): number {
  const address = socketAddress(path);
  const fd = check("socket", cSocket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check("connect", cConnect(fd, address, address.length), path);
  return fd;
}

/** Waits for the next connection. Returns its descriptor, or the negative errno. */
export function acceptConnection(fd: number): number {
  const result = cAccept4(fd, null, null, SOCK_CLOEXEC);
  return result === -1 ? -lastErrno() : result;
}

/** Both directions of a connection end; a thread that waits for it returns. */
export function shutdownSocket(fd: number): void {
  cShutdown(fd, SHUT_RDWR);
}

/** The process at the other end when the connection was made (SO_PEERCRED); 0: of a PID namespace that this one does not see. */
export function peerProcess(fd: number): number {
  const credentials = new Uint8Array(12);
  const length = new Uint32Array([credentials.length]);
  check("getsockopt(SO_PEERCRED)", cGetsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length));
  return new DataView(credentials.buffer).getInt32(0, true);
}

function hasOption(fd: number, option: number, wanted: number): boolean {
  const value = new Uint8Array(4);
  const result = cGetsockopt(fd, SOL_SOCKET, option, value, new Uint32Array([value.length]));
  return result === 0 && new DataView(value.buffer).getInt32(0, true) === wanted;
}

/** Whether a descriptor is a stream socket of this kind. */
export function isUnixStream(fd: number): boolean {
  return hasOption(fd, SO_DOMAIN, AF_UNIX) && hasOption(fd, SO_TYPE, SOCK_STREAM);
}

/** Whether a descriptor is one that listens. */
export function isUnixListener(fd: number): boolean {
  return isUnixStream(fd) && hasOption(fd, SO_ACCEPTCONN, 1);
}

/** struct msghdr over one piece of memory. The arrays must live until the call is over. */
function header(bytes: Uint8Array, control: Uint8Array | null) {
  const iovec = new BigUint64Array([addressOf(bytes), BigInt(bytes.length)]);
  const words = new BigUint64Array(7);
  words[2] = addressOf(iovec);
  words[3] = 1n;
  words[4] = control === null ? 0n : addressOf(control);
  words[5] = BigInt(control?.length ?? 0);
  return { iovec, words, message: new Uint8Array(words.buffer) };
}

const padded = (bytes: number): number => (bytes + 7) & ~7;

/** Sends the bytes, the descriptors with them. Returns the bytes taken or the negative errno; no SIGPIPE. */
export function sendWithDescriptors(socket: number, bytes: Uint8Array, fds: readonly number[]): number {
  let control: Uint8Array | null = null;
  if (fds.length > 0) {
    const view = new DataView(new ArrayBuffer(padded(CMSG_HEADER_BYTES + 4 * fds.length)));
    view.setBigUint64(0, BigInt(CMSG_HEADER_BYTES + 4 * fds.length), true);
    view.setInt32(8, SOL_SOCKET, true);
    view.setInt32(12, SCM_RIGHTS, true);
    for (const [i, fd] of fds.entries()) view.setInt32(CMSG_HEADER_BYTES + 4 * i, fd, true);
    control = new Uint8Array(view.buffer);
  }
  const { message } = header(bytes, control);
  const result = cSendmsg(socket, message, MSG_NOSIGNAL);
  return result === -1 ? -lastErrno() : result;
}

export type ReceivedBytes = {
  /** Bytes; 0: the other end has closed; or the negative errno. */
  readonly lengthBytes: number;
  /** This process's own now. */
  readonly fds: readonly number[];
  /** Descriptors were lost: more than a message may carry, or this process's limit. */
  readonly isTruncated: boolean;
};

/** Room for every descriptor that a message can carry: one that found none would be lost, and its file with it. */
const CONTROL_BYTES = padded(CMSG_HEADER_BYTES + 4 * MAX_DESCRIPTORS);

/** Waits for bytes, at most as many as `into` has. */
export function receiveWithDescriptors(socket: number, into: Uint8Array): ReceivedBytes {
  const control = new DataView(new ArrayBuffer(CONTROL_BYTES));
  const { words, message } = header(into, new Uint8Array(control.buffer));
  let result = cRecvmsg(socket, message, MSG_CMSG_CLOEXEC);
  while (result === -1 && lastErrno() === EINTR) result = cRecvmsg(socket, message, MSG_CMSG_CLOEXEC);
  if (result === -1) return { lengthBytes: -lastErrno(), fds: [], isTruncated: false };
  const fds: number[] = [];
  const end = Number(words[5] ?? 0n);
  for (let at = 0; at + CMSG_HEADER_BYTES <= end; ) {
    const length = Number(control.getBigUint64(at, true));
    if (length < CMSG_HEADER_BYTES || at + length > end) break;
    const isRights =
      control.getInt32(at + 8, true) === SOL_SOCKET && control.getInt32(at + 12, true) === SCM_RIGHTS;
    for (let fd = at + CMSG_HEADER_BYTES; isRights && fd + 4 <= at + length; fd += 4) {
      fds.push(control.getInt32(fd, true));
    }
    at += padded(length);
  }
  const isTruncated = (Number(words[6] ?? 0n) & MSG_CTRUNC) !== 0;
  return { lengthBytes: result, fds, isTruncated };
}
