/**
 * Names: single path components as bytes with their NUL, the only form in which a client's text reaches openat.
 *
 * A `ComponentName` has no slash, is not empty, `.` or `..`, and is at most NAME_MAX bytes long. Since every system
 * call of the passthrough takes one of these relative to a descriptor, no request can name a place outside.
 */
import { failure } from "./errors.ts";

/** Longest component, without the NUL (Linux NAME_MAX). */
export const NAME_MAX_BYTES = 255;
/** Longest symbolic link target, with the NUL (Linux PATH_MAX). */
export const PATH_MAX_BYTES = 4096;
const SLASH = 0x2f;
const DOT = 0x2e;

/** NUL-terminated bytes of one path component. */
export type ComponentName = Uint8Array & { readonly __brand: "ComponentName" };

/** NUL-terminated bytes without an inner NUL: an xattr name or a link target. */
export type TerminatedBytes = Uint8Array & { readonly __brand: "TerminatedBytes" };

/** Checks NUL-terminated bytes. The result is the same memory, not a copy. */
export function checkedName(bytes: Uint8Array): ComponentName {
  const length = bytes.length - 1;
  if (length <= 0) throw failure("ENOENT");
  if (length > NAME_MAX_BYTES) throw failure("ENAMETOOLONG");
  if (bytes[length] !== 0) throw failure("EINVAL");
  // A plain loop: for names this short it is faster than two calls of built-in searches.
  for (let i = 0; i < length; i += 1) {
    const byte = bytes[i];
    if (byte === 0 || byte === SLASH) throw failure("EINVAL");
  }
  const dots = bytes[0] === DOT && (length === 1 || (length === 2 && bytes[1] === DOT));
  if (dots) throw failure("EINVAL");
  return bytes as ComponentName;
}

/** `checkedName` of text. */
export function componentName(text: string): ComponentName {
  return checkedName(Buffer.from(`${text}\0`, "utf8"));
}

/** Checks NUL-terminated bytes that are not a component: xattr names and link targets. */
export function checkedTerminated(bytes: Uint8Array, limitBytes: number): TerminatedBytes {
  const length = bytes.length - 1;
  if (length <= 0) throw failure("ENOENT");
  if (bytes.length > limitBytes) throw failure("ENAMETOOLONG");
  if (bytes.indexOf(0) !== length) throw failure("EINVAL");
  return bytes as TerminatedBytes;
}

/** A link target. Any text is allowed: only the client ever resolves it. */
export function linkTarget(text: string): TerminatedBytes {
  return checkedTerminated(Buffer.from(`${text}\0`, "utf8"), PATH_MAX_BYTES);
}

/** An xattr name such as `user.origin`. */
export function attributeName(text: string): TerminatedBytes {
  return checkedTerminated(Buffer.from(`${text}\0`, "utf8"), NAME_MAX_BYTES + 1);
}

const TRUSTED = Buffer.from("trusted.");

/** A list of NUL-terminated xattr names without those of `trusted.*`; the list itself where it has none. */
export function withoutTrusted(list: Uint8Array): Uint8Array {
  const bytes = Buffer.from(list.buffer, list.byteOffset, list.length);
  if (!bytes.includes(TRUSTED)) return list;
  const kept: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at);
    const next = end < 0 ? bytes.length : end + 1;
    const name = bytes.subarray(at, next);
    if (!name.subarray(0, TRUSTED.length).equals(TRUSTED)) kept.push(name);
    at = next;
  }
  return Buffer.concat(kept);
}
