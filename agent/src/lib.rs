pub mod clock;
pub mod nginx;
