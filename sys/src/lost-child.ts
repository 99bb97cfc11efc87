/**
 * A process that works for the caller was ended or stopped from outside, or did not end in its time: what was to be found
 * out is not known. The message names the process. No defect, and no finding.
 */
export class LostChildError extends Error {
  override readonly name = "LostChildError";
}
