// Package oracle holds the data engines against tools that others wrote: stock mongodump and mongorestore, built from the
// mongo-tools module. What the stock tools write must restore here, what is written here must restore with the stock tools, and
// what a killed mongodump leaves behind must never be chosen.
//
// It has tests only, and nothing imports it. What a database holds is read through the driver alone, so that neither side of a
// round trip judges itself.
package oracle
