/**
 * What a lease server and its clients send each other: over a Unix socket, JSON, one object a line.
 *
 *   client: {"hold":1,"device":"..","ino":".."}          server: {"granted":1}
 *   server: {"recall":7,"hold":1,"from":"0","by":".."}   client: {"ack":7}
 *   server: {"settle":1,"size":"0"}                      client: {"release":1}
 *
 * The server closes the connection of a client that does not acknowledge in time; that is how the client learns of it.
 */

export type ToServer =
  | { readonly hold: number; readonly device: string; readonly ino: string }
  | { readonly ack: number }
  | { readonly release: number };

export type ToClient =
  | { readonly granted: number }
  | { readonly recall: number; readonly hold: number; readonly from: string; readonly by: string }
  | { readonly settle: number; readonly size: string };

export function line(message: ToServer | ToClient): string {
  return `${JSON.stringify(message)}\n`;
}
