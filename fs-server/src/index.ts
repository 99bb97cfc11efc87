/** The file server's public face: what other parts may import. */

