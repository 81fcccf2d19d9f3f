package seed

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Reach says how mail gets to an organization.
type Reach string

// The ways to reach an organization.
const (
	Direct     Reach = "direct"     // a good address of its own
	ViaOwner   Reach = "owner"      // none; its active owner among the users has one
	BadAddress Reach = "badAddress" // one that no mail service takes
	NoAddress  Reach = "none"       // neither an address nor an active owner
)

// Organization is one tenant.
type Organization struct {
	ID     string
	Name   string
	Slug   string
	Email  string // its own; empty where it has none
	Active bool
	Reach  Reach
	Users  []User // the first is the owner
}

// Address is where mail for the organization goes; empty where there is no way.
func (o Organization) Address() string {
	switch o.Reach {
	case ViaOwner:
		return o.Users[0].Email
	case NoAddress:
		return ""
	default:
		return o.Email
	}
}

// User is one person of an organization.
type User struct {
	ID     string
	Name   string
	Email  string
	Role   string
	Active bool
}

// organizationCount and the ones below are small enough that a person can check a run's mails by eye, and large enough
// that the mail goes out in more than one go at a rate limit.
const (
	organizationCount = 60
	usersEach         = 4
)

// world is what documents of several collections refer to.
type world struct {
	options       Options
	organizations []Organization
}

func newWorld(o Options) *world {
	w := &world{options: o}
	r := o.source("\x00organizations")
	for i := range organizationCount {
		w.organizations = append(w.organizations, newOrganization(r, i))
	}
	return w
}

// newOrganization makes organization i. Which of them are awkward is fixed, so that every seed has each kind.
func newOrganization(r *rand.Rand, i int) Organization {
	city := cities[i%len(cities)]
	name := fmt.Sprintf("%s %s %s", garageFirst[r.IntN(len(garageFirst))], garageLast[r.IntN(len(garageLast))], city)
	slug := fmt.Sprintf("%s-%02d", strings.ToLower(strings.ReplaceAll(name, " ", "-")), i+1)
	o := Organization{
		ID: "org_" + hexID(r), Name: name, Slug: slug, Active: true, Reach: Direct,
		Email: "office@" + slug + ".example",
	}
	for u := range usersEach {
		person := people[r.IntN(len(people))]
		o.Users = append(o.Users, User{
			ID: "user_" + hexID(r), Name: person, Role: roles[u], Active: u < 3 || r.IntN(4) > 0,
			Email: fmt.Sprintf("%s.%d@%s.example", mailbox(person, roles[u]), u+1, slug),
		})
	}
	switch i {
	case 7, 15, 23, 31, 39, 47, 55: // left, or never paid
		o.Active = false
	case 5, 18, 29, 44:
		o.Email, o.Reach = "", ViaOwner
	case 12:
		o.Email, o.Reach = "service at "+slug+" dot in", BadAddress
	case 37:
		o.Email, o.Reach = "", NoAddress
		o.Users[0].Active = false
	}
	return o
}

// mailbox is what stands before the @ of a person's address: the first name, or the role where mail services would not take it.
func mailbox(person, role string) string {
	first := strings.ToLower(strings.Fields(person)[0])
	if strings.ContainsFunc(first, func(r rune) bool { return r > unicode.MaxASCII }) {
		return role
	}
	return first
}

var roles = [usersEach]string{"owner", "admin", "technician", "accountant"}

// generator makes the documents of one collection.
type generator struct {
	*rand.Rand
	world     *world
	name      string
	documents []bson.Raw
	made      time.Time // the last _id
}

func (w *world) generator(name string) *generator {
	return &generator{Rand: w.options.source(name), world: w, name: name, made: w.options.Now.Add(-400 * day)}
}

// add appends one document, with an _id of its own unless it brings one.
func (g *generator) add(doc bson.D) {
	if len(doc) == 0 || doc[0].Key != "_id" {
		doc = append(bson.D{{Key: "_id", Value: g.objectID()}}, doc...)
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		// Only values that this package wrote itself can be in doc, and its tests marshal every one of them.
		panic(fmt.Sprintf("seed: collection %s: %v", g.name, err))
	}
	g.documents = append(g.documents, raw)
}

// count scales the size of a large collection.
func (g *generator) count(n int) int { return max(1, int(float64(n)*g.world.options.Scale)) }

// servers is how many processes of the application write to the database.
const servers = 4

// objectID makes an identifier as an application's driver would (https://www.mongodb.com/docs/manual/reference/bson-types/#objectid): the
// second, which is never before the last one's, five bytes that are the process's own, and its count.
func (g *generator) objectID() bson.ObjectID {
	g.made = g.made.Add(time.Duration(g.Int64N(int64(time.Minute))))
	server := g.Uint64() % servers
	id := bson.NewObjectIDFromTimestamp(g.made)
	binary.BigEndian.PutUint64(id[4:], (server+1)*0x9E3779B97F4A7C15)
	binary.BigEndian.PutUint32(id[8:], binary.BigEndian.Uint32(id[8:])&^0xFFFFFF|uint32(len(g.documents))&0xFFFFFF)
	return id
}

// ago is a time in the last d before the seed's end.
func (g *generator) ago(d time.Duration) time.Time {
	return g.world.options.Now.Add(-time.Duration(g.Int64N(int64(d)))).UTC().Truncate(time.Millisecond)
}

func (g *generator) date(d time.Duration) bson.DateTime { return bson.NewDateTimeFromTime(g.ago(d)) }

// isoPlain is a time as the application's Python writes it where nobody thought of zones: it means UTC.
func (g *generator) isoPlain(d time.Duration) string {
	return g.ago(d).Add(time.Duration(g.IntN(1000)) * time.Microsecond).Format("2006-01-02T15:04:05.000000")
}

// isoZoned is a time as the application's newer code writes it.
func (g *generator) isoZoned(d time.Duration) string {
	return g.ago(d).Add(time.Duration(g.IntN(1000)) * time.Microsecond).Format("2006-01-02T15:04:05.000000-07:00")
}

func (g *generator) id(prefix string) string { return prefix + hexID(g.Rand) }

func (g *generator) pick(of []string) string { return of[g.IntN(len(of))] }

// organization picks a tenant; a few have most of the data, as in life.
func (g *generator) organization() *Organization {
	n := len(g.world.organizations)
	i := min(g.IntN(n), g.IntN(n))
	return &g.world.organizations[i]
}

func (g *generator) user(o *Organization) User { return o.Users[g.IntN(len(o.Users))] }

// rupees is an amount of money as the application keeps it: a double with two places.
func (g *generator) rupees(most int) float64 { return float64(100+g.IntN(most*100)) / 100 }

// phrase is some words about a repair.
func (g *generator) phrase(words int) string {
	var b strings.Builder
	for i := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(g.pick(repairWords))
	}
	return b.String()
}

func hexID(r *rand.Rand) string { return fmt.Sprintf("%012x", r.Uint64()&0xffffffffffff) }
