package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/internal/figures"
)

// checked is what `projector check` says of a file.
type checked struct {
	File       string   `json:"file"`
	Projection string   `json:"projection"`
	Order      string   `json:"order"`
	Topics     []string `json:"topics"`
	Relations  []string `json:"relations"`
	Digest     string   `json:"digest"`
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check files against their topics, and change nothing", Args: cobra.NoArgs,
		Long: `Tells all that is wrong with the files, each with its line, the value and what
would be right; warnings go to stderr. --output json prints [{file, projection,
order, topics, relations, digest}].`,
		Example: "  projector check -f shipping.yaml",
		RunE:    func(c *cobra.Command, _ []string) error { return a.check(c.Context()) },
	}
}

func (a *app) check(ctx context.Context) error {
	files, err := a.files()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return cli.BadInput("no projection: name a file with -f; projector init writes a first one")
	}
	cluster, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	programs, err := a.compile(ctx, cluster, files, nil)
	if err != nil {
		return err
	}
	list := []checked{}
	for _, p := range programs {
		s := p.program.Spec()
		c := checked{File: p.file.Path, Projection: s.Name, Order: "partitioned", Topics: s.Topics, Digest: s.Digest, Relations: []string{}}
		if s.Aligned {
			c.Order = "aligned"
		}
		for _, t := range s.Tables {
			if !t.Hidden {
				c.Relations = append(c.Relations, t.Name)
			}
		}
		for _, v := range s.Views {
			c.Relations = append(c.Relations, v.Name)
		}
		list = append(list, c)
	}
	return a.Print.Result(list, func(w io.Writer) {
		rows := [][]string{{"file", "projection", "order", "topics", "readers see"}}
		for _, c := range list {
			rows = append(rows, []string{c.File, c.Projection, c.Order, fmt.Sprint(c.Topics), fmt.Sprint(c.Relations)})
		}
		_ = figures.Table(w, "", figures.Numbers, rows)
		fmt.Fprintln(w, a.Print.Good("nothing is wrong"))
	})
}
