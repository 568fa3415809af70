// Package service is the life of a service that lives on events: which versions
// of a projection are followed, by whom, until when.
//
//	s := &service.Service{Store: store, Log: cluster, Join: join, Program: program, ...}
//	err := s.Run(ctx)
//
// Run installs the projection where it is not yet, follows each of its versions
// (the one that readers see, one that a rebuild has made, one that is kept for a
// rollback), notices new ones, and sends the effects that were promised. It ends
// with ctx, with the first version that fails, or, told to, when all have caught
// up. What keeps two of them apart is the fence in the database, not this package.
package service
