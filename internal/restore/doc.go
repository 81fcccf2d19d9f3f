// Package restore puts a backup into a database: stage, prove, swap. The backup is loaded beside the live data into
// collections of its own, read back and compared with the manifest, and only then put in place, by renaming. What
// stood there is renamed aside and can be renamed back, until somebody drops it.
//
// It knows neither Temporal nor configuration; the playbooks' activities and "runbook offline" call it, under the same
// lease. It chooses no backup, stops no application and asks no person.
//
// Three things keep a database safe from a restore that is killed, retried or overtaken:
//
//   - Every step can be run again. Staging journals each finished collection; a swap writes its plan before its first
//     rename and from then on decides by what the server has, collection by collection.
//   - An attempt writes only to collections that carry its token in their names, and looks at the lease right before
//     each rename. A look and the rename that follows are two commands: an attempt that is frozen exactly between the two
//     while another one takes over can still set one live collection aside. It cannot put its own data in place, because
//     whoever takes over drops the staging of every lower token first, and it destroys nothing.
//   - Nothing outside the reserved names is ever dropped, but for views, whose definitions are journalled first, and for
//     what Direct itself has half loaded.
package restore
