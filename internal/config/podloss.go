package config

import (
	"fmt"
	"slices"
	"time"
)

// PodLoss is what the playbook for a lost pod or volume has to know of a target. All of it is optional.
type PodLoss struct {
	Alerts []string `yaml:"alerts"` // values of alertname that mean that the database's pod or volume is gone
	// Observations is how many in a row must find the database gone, Every apart, before anybody is asked. Default 3, and 30s.
	Observations int      `yaml:"observations"`
	Every        Duration `yaml:"every"`
	Support      []string `yaml:"support"` // addresses of the platform's support, who may recover the volume
	Volume       Volume   `yaml:"volume"`
	Deadline     Duration `yaml:"deadline"` // after which an unanswered volume counts as lost; default 0: waits for ever
	// Users are the database users and roles that the application needs, in the words in which people are told: they are
	// never restored.
	Users []string `yaml:"users"`
}

// Volume is what the platform's support must know to find the volume.
type Volume struct {
	Name string `yaml:"name"` // in the platform's words: namespace, claim, node
	Path string `yaml:"path"` // directory of the database's files, where the worker's host can see it
}

func (p *PodLoss) defaults() { p.Observations, p.Every = 3, Duration(30*time.Second) }

// Lists says whether an alert of that name means an incident of this target.
func (t *Target) Lists(alert string) bool {
	return slices.Contains(t.Alerts, alert) || slices.Contains(t.PodLoss.Alerts, alert)
}

func (c *checker) podLoss(path string, t *Target) {
	p := &t.PodLoss
	c.each(path+".alerts", p.Alerts, "an alert's name")
	for i, name := range p.Alerts {
		if slices.Contains(t.Alerts, name) {
			c.wrong(fmt.Sprintf("%s.alerts[%d]", path, i), "is %q, which stands under alerts of the target, too; expected it in one of them", name)
		}
	}
	c.between(path+".observations", int64(p.Observations), 1, 100, "a number of observations")
	c.positive(path+".every", p.Every)
	c.addresses(path+".support", p.Support)
	if c.there(path + ".volume.name") {
		c.required(path+".volume.name", p.Volume.Name, "the volume in the platform's words, such as namespace/claim")
	}
	if c.there(path + ".volume.path") {
		c.path(path+".volume.path", p.Volume.Path, "/var/lib/mongodb")
	}
	c.notNegative(path+".deadline", int64(p.Deadline))
	c.each(path+".users", p.Users, "a database user and its roles, such as: battwheels (readWrite on battwheels)")
}
