/** A process that works for the caller was ended or stopped from outside: what was to be found out is not known. */
export class LostChildError extends Error {
  override readonly name = "LostChildError";
}
